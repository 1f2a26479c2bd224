"""What one GPU makes of the engine at the paper's headline size, against the published forms in the same run.

    python benchmarks/gpu_speed.py --json $OUT/speed.json [--repeats 3]

A full update (500 images, 80 + 60 steps) and experts in float32, TF32 and bfloat16, each with its gradient's cosine to float64 and
its peak memory; the rate reached against that of a large product; a profile. Needs torch, torchvision, numpy, pydantic, PyYAML,
pillow, safetensors, pyarrow and rich; no Ray. On an H200 it should take five minutes, which has not been measured; ``--tiny`` tries
everything once at a size for a CPU.
"""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="One GPU at the paper's headline size, against the published forms."
    )
    parser.add_argument("--json", type=Path, required=True, help="file for the results")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, side by side")
    parser.add_argument("--tiny", action="store_true", help="everything once, at a size for a CPU")
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # nothing needs to be installed
    from rich.console import Console

    from ltdd_ray.bench.cli import render
    from ltdd_ray.bench.gpu import HEADLINE, measure
    from ltdd_ray.bench.result import Result
    from ltdd_ray.bench.sizes import TINY
    from ltdd_ray.common.files import write_json

    found = measure(options.repeats, TINY if options.tiny else HEADLINE)
    write_json(options.json, found)
    Console().print(render("gpu", [Result(**result) for result in found["results"]]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
