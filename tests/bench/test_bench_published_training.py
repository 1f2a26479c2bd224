"""The baselines train: the DataLoader loops of experts and evaluation."""

import numpy as np
import torch
from torch import nn

from ltdd_ray.bench.published import evaluate, experts
from ltdd_ray.bench.published.network import ConvNet
from ltdd_ray.config import EvaluateConfig
from ltdd_ray.evaluate.sets import TrainingSet
from ltdd_ray.evaluate.train import train_network
from ltdd_ray.nn.augment import Augmentation


def network() -> ConvNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ConvNet(channels=3, image_size=8, width=6, depth=2, classes=3)


def coloured(counts: tuple[int, ...], transform: experts.Transform) -> experts.Images:
    """Class k is bright in the upper half of channel k, which instance norm does not remove."""
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.zeros((len(labels), 8, 8, 3), dtype=np.uint8)
    images[np.arange(len(labels)), :4, :, labels] = 255
    return experts.Images(images, labels, transform)


def test_the_representation_stage_learns_and_tests_every_epoch() -> None:
    train, test = (
        coloured((20, 20, 20), experts.TEST_TRANSFORM),
        coloured((5, 5, 5), experts.TEST_TRANSFORM),
    )
    found = experts.representation_stage(
        network(), train, test, epochs=8, batch_size=10, lr=0.05, momentum=0.9, weight_decay=0
    )
    assert len(found) == 8
    assert found[-1] > 0.9


def test_the_classifier_stage_moves_the_classifier_alone_and_balances_classes() -> None:
    model, train = network(), coloured((40, 10, 2), experts.TEST_TRANSFORM)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen: list[int] = []
    transformed = train.transform
    train.transform = lambda image: (
        seen.append(int(np.asarray(image)[0, 0].argmax())) or transformed(image)
    )
    experts.classifier_stage(
        model, train, coloured((2, 2, 2), experts.TEST_TRANSFORM), epochs=1, batch_size=16, lr=0.1
    )
    moved = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {"classifier.weight", "classifier.bias"}
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert len(seen) == 3 * 40
    assert np.bincount(seen).min() > 20


def test_the_train_transform_keeps_the_size() -> None:
    image, label = coloured((1, 1, 1), experts.train_transform(8))[2]
    assert image.shape == (3, 8, 8)
    assert label == 2


def test_evaluation_follows_the_engines_protocol() -> None:
    """With full batches and no augmentation both end in the same weights."""
    draw = torch.Generator().manual_seed(1)
    images, soft_labels = (
        torch.randn(9, 3, 8, 8, generator=draw),
        torch.randn(9, 3, generator=draw).softmax(1),
    )
    settings, rate = EvaluateConfig(epochs=7), 0.05
    plain, engine = network(), network()
    evaluate.train_network(
        plain,
        images,
        soft_labels,
        nn.Identity(),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        lr=rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    train_network(
        engine, TrainingSet(images, soft_labels, rate), settings, Augmentation(""), seed=0
    )
    for ours, theirs in zip(engine.parameters(), plain.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert not torch.equal(plain.classifier.weight, network().classifier.weight)
