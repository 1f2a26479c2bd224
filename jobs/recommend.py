"""`ltdd-ray recommend` as a Ray job.

ray job submit --runtime-env deploy/runtime_env.yaml -- \\
    python jobs/recommend.py CONFIG --minutes 30 --set output=/shared/runs
"""

import sys

from ltdd_ray.cli.main import main

sys.exit(main(["recommend", *sys.argv[1:]]))
