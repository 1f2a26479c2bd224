"""`ltdd-ray distill` as a Ray job.

ray job submit --working-dir . -- python jobs/distill.py CONFIG --set output=/shared/runs
"""

import sys

from ltdd_ray.cli.main import main

sys.exit(main(["distill", *sys.argv[1:]]))
