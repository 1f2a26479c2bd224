"""One segment to match, put to the engine and to the published forms with equal numbers and equal augmentations.

M synthetic images, K x H x W image shape, C classes, P parameters, T inner steps.
"""

import torch
from torch import Tensor

from ltdd_ray.bench.published import matching as published
from ltdd_ray.bench.published.network import ConvNet, Student
from ltdd_ray.bench.sizes import Sizes
from ltdd_ray.common.device import default_device
from ltdd_ray.common.seeding import generator
from ltdd_ray.config import ModelConfig
from ltdd_ray.distill.trajectory.matching import Hypergradient, Match, Scope, match
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.losses import soft_cross_entropy
from ltdd_ray.nn.networks import build_network

SEED = 0
RATE = 0.01
DRIFT = 0.01  # standard deviation of theta* - theta_0; it scales the gradients and costs nothing


def published_network(sizes: Sizes) -> ConvNet:
    """The published forms' network on this process's device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = ConvNet(
            sizes.image_shape[0], sizes.image_size, sizes.width, sizes.depth, sizes.classes
        )
    return network.to(default_device())


class Problem:
    """The segment in float32 or, with the same numbers, in float64."""

    def __init__(self, sizes: Sizes, dtype: torch.dtype = torch.float32) -> None:
        device, draw = default_device(), generator(SEED, "benchmark")
        network = build_network(
            ModelConfig(width=sizes.width, depth=sizes.depth),
            sizes.image_shape,
            sizes.classes,
            SEED,
        )
        self.flat = FlatModel(network)
        start = self.flat.initial()
        given = (
            start,
            start + DRIFT * torch.randn(start.shape, generator=draw),
            torch.randn(sizes.images, *sizes.image_shape, generator=draw),
            torch.randn(sizes.images, sizes.classes, generator=draw),
            torch.tensor(RATE),
        )
        self.given = published.Segment(*(tensor.to(device, dtype) for tensor in given))
        network.to(device, dtype)
        self._student = Student(published_network(sizes).to(dtype))
        self._augmentation = Augmentation(sizes.augmentation)
        self._images = sizes.images

    def engine(self, scope: Scope, hypergradient: Hypergradient, steps: int) -> Match:
        return match(
            self.flat,
            *self.given,
            steps=steps,
            batch_size=self._images,
            scope=scope,
            loss=soft_cross_entropy,
            augment=self._augmentation,
            seed=SEED,
            hypergradient=hypergradient,
        )

    def unrolled(self, steps: int) -> published.Gradients:
        """The representation phase as MTT has it."""
        return published.unrolled(
            self._student, self.given, steps=steps, augment=self._augment, matched=self._backbone
        )

    def two_pass(self, steps: int) -> published.Gradients:
        """The representation phase in two passes."""
        return published.two_pass(
            self._student, self.given, steps=steps, augment=self._augment, matched=self._backbone
        )

    def classifier_two_pass(self, steps: int) -> published.Gradients:
        """The classifier phase in two passes through the frozen backbone."""
        size = self.flat.layout.backbone_size
        return published.classifier_two_pass(
            self._student, self.given, steps=steps, augment=self._augment, backbone_size=size
        )

    @property
    def _backbone(self) -> slice:
        return slice(0, self.flat.layout.backbone_size)

    def _augment(self, images: Tensor, step: int) -> Tensor:
        return self._augmentation(
            images, generator(SEED, "augment", step)
        )  # the draws of the engine's step
