"""IDM's queue and its class-aware term; digits 8 x 8, mosaics of 2 x 2 pictures."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.seeding import generator
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.distill.distribution.idm import ImprovedDistributionMatching

Tiny = Callable[..., RunConfig]
QUEUE = {"size": 3, "enter_every": 2, "trained": 1, "steps": 2, "batch_size": 40}
SETTINGS = {"updates": 4, "real_batch": 5, "lr_image": 0.1, "queue": QUEUE}


@pytest.fixture
def make(tiny: Tiny, tmp_path: Path) -> Callable[..., ImprovedDistributionMatching]:
    def make(**changes) -> ImprovedDistributionMatching:
        side = changes.pop("pictures_per_side", 2)
        distribution = {**SETTINGS, **changes}
        config = tiny(
            tmp_path,
            distill={
                "ipc": 1,
                "engine": "idm",
                "pictures_per_side": side,
                "distribution": distribution,
            },
            augmentation="",
        )
        return ImprovedDistributionMatching(config, DATA or prepared(config), torch.device("cpu"))

    return make


DATA: PreparedData | None = None


def prepared(config: RunConfig) -> PreparedData:
    global DATA
    DATA = prepare_data(config)
    return DATA


def weights(method: ImprovedDistributionMatching) -> list[torch.Tensor]:
    return [slot.classifier.weight.detach().clone() for slot in method.slots]


def test_the_youngest_networks_are_in_the_queue(make) -> None:
    method = make()
    assert [list(method.members_at(update)) for update in (0, 1, 2, 5, 6, 9)] == [
        [0],
        [0],
        [0, 1],
        [0, 1, 2],
        [1, 2, 3],
        [2, 3, 4],
    ]


def test_a_fresh_network_drives_out_the_oldest_and_its_momentum(make) -> None:
    method = make()
    optimiser = method.optimiser()
    for update in range(6):
        method.step(optimiser, update)
    trained = weights(method)
    method.network(optimiser, 6)  # number 3 enters, into the slot of number 0
    now = weights(method)
    assert torch.equal(now[0], method.fresh_network(3).classifier.weight)
    assert torch.equal(now[1], trained[1]) and torch.equal(now[2], trained[2])
    assert all(parameter not in optimiser.state for parameter in method.slots[0].parameters())


def test_one_member_is_trained_after_each_update_and_learns_the_pictures(make) -> None:
    method = make(queue={**QUEUE, "size": 2, "enter_every": 1, "steps": 60, "lr": 0.05})
    optimiser = method.optimiser()
    before, images = weights(method), method.images.detach().clone()
    method.between_updates(optimiser, 1)
    moved = [not torch.equal(a, b) for a, b in zip(before, weights(method))]
    assert sorted(moved) == [False, True], "a network that was not drawn moved too"
    assert torch.equal(method.images.detach(), images)
    pictures, classes = method.pictures(), method.picture_classes
    with torch.no_grad():
        learned, other = (
            float(cross_entropy(method.slots[i](pictures), classes))
            for i in (moved.index(True), moved.index(False))
        )
    assert learned < 0.5 * other


def test_a_member_learns_the_real_images_and_counts_what_it_knew(make) -> None:
    """Against plain SGD on the same batches."""
    method = make(queue={**QUEUE, "train_on": "real", "steps": 3, "lr": 0.05, "weight_decay": 0.0})
    ours = deepcopy(method.slots[0])
    plain = torch.optim.SGD(ours.parameters(), lr=0.05, momentum=0.9)
    draw, knew = generator(method.config.seed, "distribution-step", 0, 0), 0
    for _ in range(3):
        index = torch.randperm(len(method.real), generator=draw)[:40]
        logits = ours(method.real[index])
        knew += int((logits.argmax(1) == method.labels[index]).sum())
        plain.zero_grad()
        cross_entropy(logits, method.labels[index]).backward()
        plain.step()
    method.between_updates(method.optimiser(), 0)
    torch.testing.assert_close(method.slots[0].classifier.weight, ours.classifier.weight)
    assert method.saw.tolist() == [120, 0, 0] and method.knew.tolist() == [knew, 0, 0]


def test_the_class_term_weighs_what_the_network_knew_in_its_training(make) -> None:
    method = make(class_weight=2.0, queue={**QUEUE, "train_on": "real"})
    method.slot, method.saw[1], method.knew[1] = 1, 80, 20
    loss, parts = method.loss(method.slots[1], *method.batches(0), 0)
    torch.testing.assert_close(loss - parts["loss/distance"], 2.0 * 0.25 * parts["loss/class"])
    method.network(method.optimiser(), 8)  # number 4 takes the slot of number 1
    assert method.saw.tolist() == [0, 0, 0] and method.knew.tolist() == [0, 0, 0]


def test_steps_after_each_class_are_joint_steps_at_twice_the_rate() -> None:
    """The claim of idm.yaml, on a loss with a term for each of ten classes."""
    aims = torch.linspace(-1, 1, 10)
    each = torch.zeros(10, requires_grad=True)
    joint = torch.zeros(10, requires_grad=True)
    one, other = SGD([each], lr=0.05, momentum=0.5), SGD([joint], lr=0.1)
    for _ in range(20):
        for k in range(10):
            one.zero_grad()
            (each[k] - aims[k]).square().backward()
            one.step()
        other.zero_grad()
        (joint - aims).square().sum().backward()
        other.step()
    # Steps of class k are followed by 9 - k ones of momentum before the end.
    torch.testing.assert_close(each[:5], joint[:5], rtol=0.02, atol=0)
    assert not torch.allclose(each[:5], torch.zeros(5), atol=0.1)


def test_an_image_step_moves_no_network(make) -> None:
    method = make(queue={**QUEUE, "steps": 0})
    before = weights(method)
    images = method.images.detach().clone()
    method.step(method.optimiser(), 0)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(method)))
    assert not torch.equal(method.images.detach(), images)


def test_the_class_term_weighs_as_much_as_the_network_knows(make) -> None:
    """A network that predicts class 0 alone is right about a tenth of a balanced real batch."""
    method = make(class_weight=2.0)
    network = method.slots[0]
    network.classifier.weight.data.zero_()
    network.classifier.bias.data = torch.tensor([3.0] + [0.0] * 9)
    loss, parts = method.loss(network, *method.batches(0), 0)
    rest = torch.logsumexp(network.classifier.bias.detach(), 0)
    torch.testing.assert_close(
        parts["loss/class"].detach(), 10 * rest - 3
    )  # summed over classes, each the mean of its pictures
    torch.testing.assert_close(loss - parts["loss/distance"], 2.0 * 0.1 * parts["loss/class"])


def test_images_start_as_four_shrunken_real_ones_of_their_class(make) -> None:
    method = make()
    pictures, classes = method.pictures(), method.picture_classes
    assert method.images.shape == (10, 1, 8, 8) and pictures.shape == (40, 1, 8, 8)
    assert classes.tolist() == [k for k in range(10) for _ in range(4)]
    cell = method.images.detach()[7, 0, :4, 4:]
    own = torch.nn.functional.avg_pool2d(method.real[method.labels == 7], 2)[:, 0]
    assert (own - cell).abs().amax((1, 2)).min() < 1e-6


def test_a_mosaic_that_does_not_fit_is_refused(make) -> None:
    with pytest.raises(
        UserError, match=r"distill\.pictures_per_side 3 does not divide images of 8 x 8 pixels"
    ):
        make(pictures_per_side=3)
