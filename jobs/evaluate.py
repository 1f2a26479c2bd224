"""`ltdd-ray evaluate` as a Ray job.

ray job submit --runtime-env deploy/runtime_env.yaml -- \\
    python jobs/evaluate.py CONFIG --set output=/shared/runs
"""

import sys

from ltdd_ray.cli.main import main

sys.exit(main(["evaluate", *sys.argv[1:]]))
