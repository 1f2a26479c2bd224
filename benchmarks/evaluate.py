"""`ltdd-ray bench evaluate` from a checkout: python benchmarks/evaluate.py [--json FILE] [--repeats N]"""

import sys

from ltdd_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["bench", "evaluate", *sys.argv[1:]]))
