"""`ltdd-ray bench matching` from a checkout: python benchmarks/matching.py [--json FILE] [--repeats N]"""

import sys

from ltdd_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["bench", "matching", *sys.argv[1:]]))
