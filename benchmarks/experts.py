"""`ltdd-ray bench experts` from a checkout: python benchmarks/experts.py [--json FILE] [--repeats N]"""

import sys

from ltdd_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["bench", "experts", *sys.argv[1:]]))
