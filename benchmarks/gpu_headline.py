"""The paper's headline on one GPU, without Ray: experts, distillation and evaluation of CIFAR-10-LT in slices of a few minutes.

    python benchmarks/gpu_headline.py --data data/cifar10 --out $OUT --minutes 9 [--carried FOLDER]

Exit code 75 says that time was over first: call again, with the folder that came back as ``--carried``. It holds results.json and,
per unfinished run, a checkpoint of about 12 MB; on the same machine ``--work`` still has the experts, elsewhere they are trained
again from their seeds. Needs torch, numpy, pyarrow, pydantic, PyYAML, pillow, safetensors and rich; no Ray, and no installation of
this package. A folder that travels has at most two files per unfinished run and results.json.

What one H200 should take, from counted operations (a forward pass is 0.10 GFLOP an image) at 150 TFLOP/s of TF32 convolutions and
3 TB/s between them. None of it has been measured:

    what                                       operations    expected
    one expert, IF 100, 100 epochs of GSAM     0.75 PFLOP    10 s
    100 experts                                75 PFLOP      17 min, the same for three processes at once
    one update, 80 + 60 steps of 500 images    45 TFLOP      0.4 s
    2,000 updates                              90 PFLOP      14 min
    five networks on 500 images                              1 min
    full data, five networks                                 2 min

Plan for 45 minutes, most telling first (every command with --data and --out, and --carried from the second slice of a run on):

    6 min    gpu_speed.py --json $OUT/speed.json: which precision keeps the gradient, where the time goes
    4 min    --cells if100_ipc50 --methods random full_ce: the references, and whether all of it runs
    2 x 9    --cells if100_ipc50 --methods ltdd --precision tf32 --set experts.count=50 distill.updates=2000
    9 min    the same with --methods datm, on the machine that still has the experts
    then     the other cells, in the order of the default
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CELLS = ("if100_ipc50", "if200_ipc50", "if100_ipc10", "if10_ipc50")
METHODS = ("ltdd", "datm", "random", "full_ce")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="CIFAR-10-LT on one GPU, in slices; exit code 75: call again."
    )
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument(
        "--data",
        type=Path,
        default=ROOT.parent / "shared" / "data" / "cifar10",
        help="folder of the parquet files",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("runs/headline"),
        help="experts and distilled sets on this machine's disk",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/headline/out"),
        help="what is to travel to the next slice",
    )
    parser.add_argument("--carried", type=Path, help="--out of the slice before")
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument(
        "--precision",
        choices=("float32", "tf32", "bfloat16"),
        default="float32",
        help="of experts and distillation",
    )
    parser.add_argument("--processes", type=int, default=3, help="experts trained at once")
    parser.add_argument("--threads", type=int, default=8, help="torch threads")
    parser.add_argument("--set", nargs="+", default=[], metavar="a.b=c", help="override settings")
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT))  # nothing needs to be installed
    from ltdd_ray.bench.headline.command import run_slice
    from ltdd_ray.common.errors import UserError

    try:
        return run_slice(options, ROOT / "configs" / "cifar10_lt")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
