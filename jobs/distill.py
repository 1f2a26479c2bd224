"""`ltdd-ray distill` as a Ray job.

ray job submit --runtime-env deploy/runtime_env.yaml -- \\
    python jobs/distill.py CONFIG --set output=/shared/runs
"""

import sys

from ltdd_ray.cli.main import main

sys.exit(main(["distill", *sys.argv[1:]]))
