"""A memory probe allocates as much as the whole task, is short, and leaves no files."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from awaykit import DEVICE, OtherDevice

from ltdd_ray.common.hardware import gpu_memory
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.evaluate import train
from ltdd_ray.experts import expert as run
from ltdd_ray.nn.convnet_passes import ConvNetPasses
from ltdd_ray.nn.flat import FlatModel

Tiny = Callable[..., RunConfig]


def test_the_probe_of_an_expert_holds_all_images_and_trains_on_whole_batches(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = {
        "representation": {"epochs": 50, "batch_size": 48, "sharpness": "none"},
        "classifier": {"epochs": 50, "batch_size": 64},
    }
    config = tiny(tmp_path, experts={"count": 2, **stages}, augmentation="")
    data, resident, model_space = prepare_data(config), [], run.model_space
    batches: dict[str, list[int]] = {"gradient": [], "features": []}

    def counted(*arguments):
        images, labels = model_space(*arguments)
        resident.append(len(images))
        return images, labels

    for owner, name in ((ConvNetPasses, "gradient"), (FlatModel, "features")):
        plain, sizes = getattr(owner, name), batches[name]
        monkeypatch.setattr(
            owner,
            name,
            lambda self, theta, x, *others, plain=plain, sizes=sizes: (
                sizes.append(len(x)) or plain(self, theta, x, *others)
            ),
        )
    monkeypatch.setattr(run, "model_space", counted)
    monkeypatch.setattr(run, "default_device", lambda: DEVICE)
    with OtherDevice():
        run.expert_memory_probe(config, data, [(1,)])
    assert resident[:2] == [len(data.train), len(data.evaluation)] and resident[2] < 150
    assert 48 in batches["gradient"] and 64 in batches["features"]
    assert sum(map(len, batches.values())) < 20
    assert not config.folder.exists()


def test_the_probe_of_networks_trains_each_set_and_architecture_once(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(tmp_path, model={"width": 4, "depth": 2, "norm": "batch"}, augmentation="")
    data, own = prepare_data(config), config.model.label
    met: list[tuple[str, int]] = []
    evaluate = train.evaluate_network

    def counted(config: RunConfig, data, name: str, model: str, network: int, report) -> object:
        met.append((name, train.epochs_on(config, name)))
        return evaluate(config, data, name, model, network, report)

    monkeypatch.setattr(train, "evaluate_network", counted)
    monkeypatch.setattr(train, "default_device", lambda: DEVICE)
    with OtherDevice():
        train.network_memory_probe(
            config,
            data,
            [(name, own, n) for name in ("random", "full_decoupled", "full_ce") for n in (0, 1)],
        )
    assert met == [("full_ce", 1), ("random", 1)]


def test_memory_counts_context_and_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.cuda, "mem_get_info", lambda: (70, 100)
    )  # 30 taken: 20 held by torch now, 10 by the context
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 20)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 25)
    assert gpu_memory() == (35, 100)
