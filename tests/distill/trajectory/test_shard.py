"""A batch shared by processes gives the gradients of one process.

M = 8 images of 3 x 8 x 8, 4 classes, T = 3 steps.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.seeding import generator
from ltdd_ray.config import ModelConfig, RunConfig
from ltdd_ray.config.loading import parse_config
from ltdd_ray.distill.trajectory.matching import Match, match
from ltdd_ray.distill.trajectory.shard import WHOLE, Shard
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.losses import DamLoss
from ltdd_ray.nn.networks import build_network

PRIOR = torch.tensor([0.6, 0.25, 0.1, 0.05], dtype=torch.float64)
BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-5}
CASES = [
    (dtype, norm, scope, mode, batch_size)
    for dtype in BOUNDS
    for norm in ("instance", "none")  # by hand, differentiated twice
    for scope in ("backbone", "classifier", "all")
    for mode in ("exact", "first_order")
    for batch_size in (8, 5)
]


def found(dtype: torch.dtype, norm, scope, mode, batch_size: int, shard: Shard = WHOLE) -> Match:
    flat = FlatModel(
        build_network(ModelConfig(width=5, depth=2, norm=norm), (3, 8, 8), 4, seed=1).to(dtype)
    )
    draw, start = generator(5, "problem"), flat.initial()
    return match(
        flat,
        start,
        start + 0.1 * torch.randn(start.shape, generator=draw, dtype=torch.float64).to(dtype),
        torch.randn(8, 3, 8, 8, generator=draw, dtype=torch.float64).to(dtype),
        torch.randn(8, 4, generator=draw, dtype=torch.float64).to(dtype),
        0.2,
        steps=3,
        batch_size=batch_size,
        scope=scope,
        loss=DamLoss.from_prior(PRIOR.to(dtype), 0.7, "frequency"),
        augment=Augmentation("color_crop_cutout_flip_scale_rotate"),
        seed=3,
        hypergradient=mode,
        shard=shard,
    )


def in_process(rank: int, count: int, folder: Path) -> None:
    """Every case, its gradients summed over the processes, into a file of rank 0."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "rendezvous"), count)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=count)
    shard, summed = Shard(rank, count), []
    for case in CASES:
        part = found(*case, shard=shard)
        summed.append(
            [
                part.loss,
                *(shard.total(one) for one in (part.images_grad, part.labels_grad, part.lr_grad)),
            ]
        )
    torch.save(summed, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("count", [2, 3])
def test_processes_that_share_a_batch_find_the_gradients_of_one(count: int, tmp_path: Path) -> None:
    """Five images fall 2 + 3 and 1 + 2 + 2."""
    torch.multiprocessing.spawn(in_process, (count, tmp_path), nprocs=count)
    by_rank = [torch.load(tmp_path / f"{rank}.pt") for rank in range(count)]
    for case, *parts in zip(CASES, *by_rank):
        one = found(*case)
        whole = (one.loss, one.images_grad, one.labels_grad, one.lr_grad)
        for rank in range(count):
            assert all(torch.equal(ours, theirs) for ours, theirs in zip(parts[rank], parts[0])), (
                case
            )
        assert (
            max(difference(ours, oracle) for ours, oracle in zip(parts[0], whole)) < BOUNDS[case[0]]
        ), case


def test_parts_cover_a_batch_once_and_differ_by_one_image() -> None:
    for batch in range(1, 12):
        for count in range(1, batch + 1):
            parts = [Shard(rank, count) for rank in range(count)]
            rows = [list(range(batch))[part.rows(batch)] for part in parts]
            assert [row for part in rows for row in part] == list(range(batch))
            assert max(map(len, rows)) - min(map(len, rows)) <= 1 <= min(map(len, rows))
            assert sum(part.weight(batch) for part in parts) == pytest.approx(1)


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 5 images has no 6 parts"):
        found(torch.float32, "instance", "all", "exact", 5, shard=Shard(0, 6))
    with pytest.raises(ValueError, match="a batch in 2 parts needs"):
        found(torch.float32, "instance", "all", "unrolled", 5, shard=Shard(0, 2))
    with pytest.raises(ValueError, match="without batch norm"):
        found(torch.float32, "batch", "all", "exact", 5, shard=Shard(0, 2))


@pytest.mark.parametrize(
    "change", [{"distill": {"hypergradient": "unrolled"}}, {"model": {"norm": "batch"}}]
)
def test_a_config_that_cannot_share_is_refused(
    tiny: Callable[..., RunConfig], tmp_path: Path, change: dict
) -> None:
    plain = tiny(tmp_path, compute={"parallel": "batch"}).model_dump()
    with pytest.raises(UserError, match=r"compute\.parallel batch needs .*; set it to trajectory"):
        parse_config(
            {**plain, **{section: {**plain[section], **keys} for section, keys in change.items()}},
            "changed",
        )
