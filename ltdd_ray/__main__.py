"""``python -m ltdd_ray``."""

import sys

from ltdd_ray.cli.main import main

sys.exit(main())
