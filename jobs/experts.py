"""`ltdd-ray experts` as a Ray job.

ray job submit --runtime-env deploy/runtime_env.yaml -- \\
    python jobs/experts.py CONFIG --set output=/shared/runs
"""

import sys

from ltdd_ray.cli.main import main

sys.exit(main(["experts", *sys.argv[1:]]))
