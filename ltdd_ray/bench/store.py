"""The trajectory store against the published layout, at the shape of CIFAR-10-LT IF 100 IPC 50 (ConvNet-3, 320,010 parameters).

Published: per ten experts and stage one ``torch.save`` of [expert][epoch][tensor], all of 101 and 11 epochs, the whole network in
each. The store keeps what matching can use: representation epochs 0 to 42 and the last, and of the classifier stage the
classifier. Rates are taken side by side, and with the files in the page cache unless said otherwise.
"""

import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from ltdd_ray.bench.result import Result
from ltdd_ray.config import DataConfig, DistillConfig, ExpertsConfig, ModelConfig, RunConfig
from ltdd_ray.distill.trajectory.loop import PREFETCHED_SEGMENTS
from ltdd_ray.distill.trajectory.objective import Objective
from ltdd_ray.distill.trajectory.prefetch import prefetch
from ltdd_ray.distill.trajectory.shard import WHOLE
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.networks import build_network
from ltdd_ray.store import DType, Stage, TrajectoryHeader, TrajectoryStore, TrajectoryWriter

PUBLISHED_EXPERTS = 10  # in one file
EXPERTS = 2
EPOCHS: dict[Stage, range] = {"representation": range(101), "classifier": range(11)}
KEPT: dict[Stage, tuple[int, ...]] = {
    "representation": (*range(43), 100),
    "classifier": tuple(range(11)),
}
SEGMENTS = 1000
UPDATES, UPDATE_SECONDS = 50, 0.1  # a thirtieth of a published update on an RTX 3090
MB = 1_000_000


def measure(repeats: int) -> list[Result]:
    """Every number of the store, in about a minute for five repeats; needs 2 GB of memory and of the temporary folder's disk."""
    theta = _parameters()
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, get_context("spawn")) as fresh,
    ):
        root = Path(folder)
        published = {stage: _publish(root / f"{stage}.pt", theta, stage) for stage in EPOCHS}
        stores = {dtype: _store(root / dtype, theta, dtype) for dtype in ("float32", "float16")}
        per_expert = sum(path.stat().st_size for path in published.values()) / PUBLISHED_EXPERTS
        disk = {dtype: _bytes(store) / EXPERTS / per_expert for dtype, store in stores.items()}
        rounds = range(repeats)
        return [
            Result.of("store_disk_float32", [disk["float32"]], 0.45, "lower"),
            Result.of("store_disk_float16", [disk["float16"]], 0.23, "lower"),
            Result.of(
                "store_read_vs_torch_load",
                [
                    _load_seconds(published["representation"]) / _read_seconds(stores["float32"], n)
                    for n in rounds
                ],
                20,
                "higher",
            ),
            Result.of(
                "store_memory",
                [fresh.submit(_memory, stores["float32"], n).result() for n in rounds],
                1,
                "lower",
            ),
            Result.of(
                "store_write_vs_disk",
                [_disk_seconds(root, theta) / _write_seconds(root, theta) for _ in rounds],
                0.7,
                "higher",
            ),
            Result.of(
                "store_read_stall", [_stall(stores["float32"], n) for n in rounds], 0.01, "lower"
            ),
        ]


def _flat() -> FlatModel:
    return FlatModel(build_network(ModelConfig(), (3, 32, 32), 10, seed=0))


def _parameters() -> np.ndarray:
    """(epochs, P): values of the size that trained networks have; read-only, so that writers need no copy of them."""
    theta = (
        np.random.default_rng(0).standard_normal((101, _flat().layout.size), dtype=np.float32) / 20
    )
    theta.setflags(write=False)
    return theta


def _publish(path: Path, theta: np.ndarray, stage: Stage) -> Path:
    parameters = _flat().layout.parameters
    experts = [
        [
            [
                torch.tensor(theta[e, p.offset : p.offset + p.size]).reshape(p.shape)
                for p in parameters
            ]
            for e in EPOCHS[stage]
        ]
        for _ in range(PUBLISHED_EXPERTS)
    ]
    torch.save(experts, path)
    return path


def _header(expert: int, stage: Stage, dtype: DType) -> TrajectoryHeader:
    return TrajectoryHeader(
        expert,
        stage,
        f"{expert}-{stage}",
        "config",
        "dataset",
        _flat().layout,
        (5000, 50),
        0,
        dtype,
    )


def _write(
    folder: Path, header: TrajectoryHeader, theta: np.ndarray, epochs: tuple[int, ...] | range
) -> None:
    backbone = header.layout.backbone_size
    with TrajectoryWriter(str(folder), header) as writer:
        for epoch in epochs:
            whole = theta[epoch, :backbone] if header.stage == "representation" else None
            writer.append(
                epoch, theta[epoch, backbone:], whole, {"train_loss": 1.0, "train_accuracy": 0.5}
            )


def _store(folder: Path, theta: np.ndarray, dtype: DType) -> Path:
    for expert in range(EXPERTS):
        for stage, epochs in KEPT.items():
            _write(folder, _header(expert, stage, dtype), theta, epochs)
    return folder


def _bytes(store: Path) -> int:
    return sum(path.stat().st_size for path in store.iterdir())


def _load_seconds(path: Path) -> float:
    began = time.perf_counter()
    torch.load(path)
    return time.perf_counter() - began


def _read_seconds(store: Path, seed: int) -> float:
    """Opening the store is part of it, and so are the check of the row and every one of its values."""
    random = np.random.default_rng(seed)
    expert, epoch = int(random.integers(EXPERTS)), int(random.choice(KEPT["representation"]))
    began = time.perf_counter()
    backbone, classifier = TrajectoryStore.open(str(store)).read(expert, "representation", epoch)
    assert backbone is not None and torch.isfinite(backbone.sum() + classifier.sum())
    return time.perf_counter() - began


def _memory(folder: Path, seed: int) -> float:
    """Growth of the resident memory while sampling segments, over the rows touched plus 100 MB; run in a fresh process."""
    random, store, touched, row = (
        np.random.default_rng(seed),
        TrajectoryStore.open(str(folder)),
        set(),
        _flat().layout.size * 4,
    )
    before = peak = _resident()
    for _ in range(SEGMENTS):
        expert, start = int(random.integers(EXPERTS)), int(random.integers(41))
        segment = store.segment(expert, "representation", start, start + 2)
        assert all(torch.isfinite(part.sum()) for part in segment)
        touched |= {(expert, start), (expert, start + 2)}
        peak = max(peak, _resident())
    return (peak - before) / (len(touched) * row + 100 * MB)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _disk_seconds(folder: Path, theta: np.ndarray) -> float:
    """As many bytes as :func:`_write_seconds`, in blocks of 8 MB, flushed to the disk."""
    data, path = theta.reshape(-1).view(np.uint8), folder / "sequential"
    os.sync()  # what was written before shall not be on its way to the disk at the same time
    began = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(data), 8 * MB):
            file.write(data[start : start + 8 * MB].data)
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    path.unlink()
    return seconds


def _write_seconds(folder: Path, theta: np.ndarray) -> float:
    header = _header(0, "representation", "float32")
    os.sync()
    began = time.perf_counter()
    _write(folder / "written", header, theta, EPOCHS["representation"])
    seconds = time.perf_counter() - began
    for path in (folder / "written").iterdir():
        path.unlink()
    return seconds


def _stall(folder: Path, seed: int) -> float:
    """Share of the time spent waiting for the store, the page cache cold, updates short, the wait for the first not counted."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    config = RunConfig(
        name="bench",
        seed=seed,
        data=DataConfig(source="cifar10"),
        experts=ExpertsConfig(count=EXPERTS, keep_epochs=42),
        distill=DistillConfig(ipc=50),
    )
    objective = Objective(
        config, _flat(), TrajectoryStore.open(str(folder)), torch.full((10,), 0.1), WHOLE
    )
    waited = worked = 0.0
    with closing(
        prefetch(lambda update: objective.read(update, 0), range(UPDATES), PREFETCHED_SEGMENTS)
    ) as readings:
        next(readings)
        for _ in range(UPDATES - 1):
            began = time.perf_counter()
            _work()
            done = time.perf_counter()
            next(readings)
            worked += done - began
            waited += time.perf_counter() - done
    return waited / (waited + worked)


def _work() -> None:
    """Keeps this thread computing for as long as an update."""
    matrix, ends = torch.ones(256, 256), time.perf_counter() + UPDATE_SECONDS
    while time.perf_counter() < ends:
        torch.mm(matrix, matrix)
