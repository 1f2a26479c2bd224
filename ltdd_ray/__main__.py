"""``python -m ltdd_ray``."""

import sys

from ltdd_ray.cli import main

sys.exit(main())
