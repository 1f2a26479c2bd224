"""`ltdd-ray run` as a Ray job.

ray job submit --runtime-env deploy/runtime_env.yaml -- \\
    python jobs/pipeline.py CONFIG --set output=/shared/runs
"""

import sys

from ltdd_ray.cli.main import main

sys.exit(main(["run", *sys.argv[1:]]))
