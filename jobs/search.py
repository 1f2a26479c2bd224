"""`ltdd-ray search` as a Ray job.

ray job submit --runtime-env deploy/runtime_env.yaml -- \\
    python jobs/search.py CONFIG --set output=/shared/runs
"""

import sys

from ltdd_ray.cli.main import main

sys.exit(main(["search", *sys.argv[1:]]))
