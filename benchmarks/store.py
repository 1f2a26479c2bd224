"""`ltdd-ray bench store` from a checkout: python benchmarks/store.py [--json FILE] [--repeats N]"""

import sys

from ltdd_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["bench", "store", *sys.argv[1:]]))
