import sys

from ltdd_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", "store", *sys.argv[1:]]))
