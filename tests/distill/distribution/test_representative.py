"""Representative real images: one of each well separated cluster, kept until the next choice."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import prepare_data
from ltdd_ray.distill.distribution.dm import DistributionMatching
from ltdd_ray.distill.distribution.loop import ENGINES
from ltdd_ray.distill.distribution.representative import representatives

Tiny = Callable[..., RunConfig]


@pytest.mark.parametrize("seed", range(5))
def test_one_image_of_each_cluster_the_nearest_to_its_centre(seed: int) -> None:
    """Four clusters of 3, 5, 7 and 9 images. In each, image 0 is the mean of the others."""
    draw, groups = torch.Generator().manual_seed(seed), []
    for corner, size in zip([(0, 0), (100, 0), (0, 100), (100, 100)], (3, 5, 7, 9)):
        around = torch.randn((size - 1) // 2, 2, generator=draw)
        around = torch.cat([torch.zeros(1, 2), around, -around])
        groups.append(torch.tensor(corner) + around)
    found = representatives(torch.cat(groups), 4, seed)
    assert sorted(found.tolist()) == [0, 3, 8, 15]


def test_of_two_images_equally_far_from_their_centre_the_first_is_taken() -> None:
    """Rounding, which differs between processors, would otherwise decide."""
    draw = torch.Generator().manual_seed(0)
    corners = 100 * torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1]]).repeat_interleave(2, 0)
    points = corners + torch.randn(8, 2, generator=draw)
    for _ in range(20):
        noisy = points * (1 + 1e-6 * torch.randn(8, 2, generator=draw))
        assert sorted(representatives(noisy, 4, 0).tolist()) == [0, 2, 4, 6]


def test_a_class_without_enough_images_repeats_them_all() -> None:
    points = torch.tensor([[0.0], [1], [5]])
    assert representatives(points, 3, 0).tolist() == [0, 1, 2]
    assert representatives(points, 5, 0).tolist() == [0, 1, 2, 0, 1]
    doubled = torch.tensor([[0.0], [9], [0], [9], [0]])  # two different images
    found = representatives(doubled, 4, 0).tolist()
    assert len(found) == 4 and set(found) == {0, 1}


def representative(tiny: Tiny, folder: Path, engine: str) -> RunConfig:
    chosen = {"real_images": "representative", "real_batch": 5, "choose_every": 3}
    distribution = {"updates": 9, "lr_image": 0.1, **chosen}
    return tiny(folder, distill={"ipc": 2, "engine": engine, "distribution": distribution})


@pytest.mark.parametrize("engine", ["dm", "dc"])
def test_the_choice_follows_the_network_and_stays_between(
    tiny: Tiny, tmp_path: Path, engine: str
) -> None:
    config = representative(tiny, tmp_path, engine)
    method = ENGINES[engine](config, prepare_data(config), torch.device("cpu"))
    optimiser, seen = method.optimiser(), []
    for update in range(7):
        method.step(optimiser, update)
        seen.append(method.real_index(update).clone())
    for k, index in enumerate(seen[0].tolist()):
        assert all(method.labels[i] == k for i in index)
        assert len(set(index)) == min(5, len(method.members[k]))
    assert all(torch.equal(seen[i], seen[i - i % 3]) for i in range(7))
    assert not torch.equal(seen[0], seen[3]) and not torch.equal(seen[3], seen[6])


def test_the_batch_is_the_centres_in_the_features_of_the_network(
    tiny: Tiny, tmp_path: Path
) -> None:
    """The network sees one pixel, and the class's values of it fall into five clusters."""

    class OnePixel(DistributionMatching):
        def network(self, optimiser, update):
            network = self.fresh_network(update)
            network.backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 1, bias=False))
            network.backbone[1].weight.data = torch.eye(64)[:1]
            return network

    config = representative(tiny, tmp_path, "dm")
    config = config.model_copy(update={"augmentation": ""})
    method = OnePixel(config, prepare_data(config), torch.device("cpu"))
    members = method.members[0]
    levels = 10.0 * (torch.arange(len(members)) % 5)
    method.real[members, 0, 0, 0] = levels
    method.step(method.optimiser(), 0)
    _, _, real, real_classes = method.batches(0)
    found = real[real_classes == 0][:, 0, 0, 0]
    assert sorted(found.tolist()) == [0, 10, 20, 30, 40]


def test_only_a_run_with_representative_images_keeps_a_choice_in_its_state(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(tmp_path, distill={"ipc": 2, "engine": "dm"})
    method = DistributionMatching(config, prepare_data(config), torch.device("cpu"))
    assert set(method.state_dict()) == {"images", "classes"}
