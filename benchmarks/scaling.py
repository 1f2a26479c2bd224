"""What more workers are worth, by either way of sharing an update: measured on 1 and 2 processes here, predicted for 8 and 64 GPUs.

    python benchmarks/scaling.py [--json FILE] [--repeats N]

Processes of one thread each meet through gloo on loopback; on a machine with fewer cores than processes the numbers mean nothing.
Strong scaling: one update of two segments (`trajectory`), or of one segment with 100 images in every batch (`batch`). Weak: one
segment, or 50 images, per worker. Predictions are those of `communication.py`; the costs that it needs come from one
worker here, the links of 8 and 64 GPUs from LINKS. Where there is a GPU, only its costs are measured. docs/scaling.md has more.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed
from communication import Cost, Link, Update, traffic, update_seconds
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from ltdd_ray.bench.problem import SEED, Problem
from ltdd_ray.bench.sizes import Sizes
from ltdd_ray.common.device import default_device, prepare_process
from ltdd_ray.common.hardware import describe_hardware
from ltdd_ray.distill.trajectory.matching import match
from ltdd_ray.distill.trajectory.shard import WHOLE, Shard
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.losses import soft_cross_entropy

STEPS = (5, 5)
SEGMENTS, IMAGES = 2, 100
SMALL = Sizes(width=32, images=IMAGES)
IPC_50 = Update(
    parameters=320_010,
    classifier_parameters=20_490,
    set_values=1_541_001,
    segments=1,
    steps=(80, 60),
    batch=500,
)
# Assumed, not measured: effective bytes per second of one GPU's link, and seconds per message with the launch of its kernel.
LINKS = {8: Link(300e9, 10e-6), 64: Link(25e9, 20e-6)}


class Silent(Shard):
    """A worker's part without the sums: what is left of its time is work."""

    def total(self, part: Tensor) -> Tensor:
        return part


HALF = Silent(0, 2)


def one_update(
    problem: Problem,
    images: int,
    segments: int,
    shard: Shard,
    workers: int,
    steps: tuple[int, int] = STEPS,
) -> None:
    """The matching of ``segments`` segments on the first ``images`` images, and the one sum of the set's gradients."""
    start, target, all_images, labels, rate = problem.given
    found = [
        match(
            problem.flat,
            start,
            target,
            all_images[:images],
            labels[:images],
            rate,
            steps=count,
            batch_size=images,
            scope=scope,
            loss=soft_cross_entropy,
            augment=Augmentation(Sizes().augmentation),
            seed=SEED,
            shard=shard,
        )
        for _ in range(segments)
        for scope, count in zip(("backbone", "classifier"), steps)
    ]
    parts = zip(*((m.images_grad, m.labels_grad, m.lr_grad) for m in found))
    gradient = torch.cat([torch.stack(part).sum(0).flatten() for part in parts])
    if workers > 1:
        torch.distributed.all_reduce(gradient)
    float(gradient[0])  # waits for a GPU


def timed(work: Callable[[], object], repeats: int) -> float:
    """Median seconds, of the slowest process each time."""
    work()
    seconds = []
    for _ in range(repeats):
        torch.distributed.barrier()
        began = time.perf_counter()
        work()
        took = torch.tensor(time.perf_counter() - began)
        torch.distributed.all_reduce(took, torch.distributed.ReduceOp.MAX)
        seconds.append(float(took))
    return median(seconds)


def measure(rank: int, workers: int, repeats: int, folder: str) -> None:
    """One process of ``workers``; rank 0 leaves the seconds of every case."""
    prepare_process(1)
    store = torch.distributed.FileStore(f"{folder}/{workers}", workers)  # pyright: ignore[reportPrivateImportUsage]
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=workers)
    problem = Problem(SMALL)
    own, part = SEGMENTS // workers, Shard(rank, workers) if workers > 1 else WHOLE
    cases = {
        "trajectory strong": (IMAGES, own, WHOLE),
        "trajectory weak": (IMAGES, 1, WHOLE),
        "batch strong": (IMAGES, 1, part),
        "batch weak": (IMAGES // 2 * workers, 1, part),
    }
    seconds = {
        name: timed(lambda case=case: one_update(problem, *case, workers), repeats)
        for name, case in cases.items()
    }
    half = timed(lambda: one_update(problem, IMAGES, 1, HALF, 1), repeats) if workers == 1 else None
    sums = {
        size: timed(lambda size=size: torch.distributed.all_reduce(torch.zeros(size)), 20)
        for size in (1, 1_000_000)
    }
    if rank == 0:
        Path(folder, f"{workers}.json").write_text(
            json.dumps({"seconds": seconds, "half": half, "sums": list(sums.values())})
        )
    torch.distributed.destroy_process_group()


def scale_here(repeats: int) -> list[dict[str, Any]]:
    """Seconds of every case on one process and on two, and the model's answer for two."""
    with tempfile.TemporaryDirectory() as folder:
        for workers in (1, 2):
            spawn(measure, (workers, repeats, folder), nprocs=workers)
        one, two = (json.loads(Path(folder, f"{workers}.json").read_text()) for workers in (1, 2))
    cost = Cost.through(one["half"], one["seconds"]["batch strong"], IMAGES)
    short, long = two["sums"]
    loopback = Link(bandwidth=4e6 / max(long - short, 1e-9), latency=short / 2)
    print(
        f"a segment takes {cost.fixed:.3g} s + {cost.per_image:.3g} s an image, a sum {short:.2g} s + {long - short:.2g} s a 4 MB"
    )
    layout = Problem(SMALL).flat.layout
    results: list[dict[str, Any]] = []
    for name, alone in one["seconds"].items():
        parallel, kind = name.split()
        share, segments = 2 if kind == "strong" else 1, SEGMENTS if parallel == "trajectory" else 1
        update = Update(
            parameters=layout.size,
            classifier_parameters=layout.classifier_size,
            set_values=IMAGES * (3 * 32 * 32 + 10) + 1,
            segments=segments,
            steps=STEPS,
            batch=IMAGES,
        )
        predicted, together = (
            update_seconds(update, cost, loopback, parallel, 2),
            two["seconds"][name],
        )
        efficiency = alone / together / share
        results.append(
            {
                "case": name,
                "seconds": [alone, together],
                "efficiency": efficiency,
                "predicted": predicted,
            }
        )
        print(
            f"{name}: {alone:.3f} s on 1, {together:.3f} s on 2 (predicted {predicted:.3f}), efficiency {efficiency:.2f}"
        )
    return results


def forecast(cost: Cost | None) -> list[dict[str, Any]]:
    """What sharing the batches of IPC 50 at full size sends, and with a ``cost`` how long its update takes."""
    rows: list[dict[str, Any]] = []
    for workers in (1, 2, 8, 64):
        sent, link = traffic(IPC_50, "batch", workers), LINKS[8 if workers <= 8 else 64]
        row = {
            "workers": workers,
            "all_reduces": sent.all_reduces,
            "payload": sent.payload,
            "waiting": link.seconds(sent, workers),
        }
        said = f"{workers} GPUs: {sent.all_reduces} sums of {sent.payload / 1e6:.0f} MB in all take {row['waiting'] * 1e3:.1f} ms"
        if cost:
            row["seconds"] = update_seconds(IPC_50, cost, link, "batch", workers)
            said += f", the update {row['seconds']:.3f} s"
        rows.append(row)
        print(said)
    return rows


def cost_of_ipc_50() -> Cost:
    """Of this process's GPU."""
    problem = Problem(Sizes(images=IPC_50.batch))
    half, whole = (_second_of_two(problem, part) for part in (HALF, WHOLE))
    return Cost.through(half, whole, IPC_50.batch)


def _second_of_two(problem: Problem, part: Shard) -> float:
    """Seconds of an update, after one to warm up."""
    seconds = 0.0
    for _ in range(2):
        began = time.perf_counter()
        one_update(problem, IPC_50.batch, 1, part, 1, IPC_50.steps)
        seconds = time.perf_counter() - began
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    gpu = default_device().type == "cuda"
    results = [] if gpu else scale_here(args.repeats)
    rows = forecast(cost_of_ipc_50() if gpu else None)
    if args.json:
        args.json.write_text(
            json.dumps(
                {"machine": describe_hardware(), "results": results, "forecast": rows}, indent=1
            )
        )


if __name__ == "__main__":
    main()
