"""Evaluating several networks on a synthetic set against training them one by one in a DataLoader loop.

Training alone is timed, for a few of the protocol's 1000 epochs: an epoch costs what any other does, and the one test at the
end would weigh too much.
"""

import torch

from ltdd_ray.bench.problem import SEED, published_network
from ltdd_ray.bench.published import evaluate as published
from ltdd_ray.bench.result import Result
from ltdd_ray.bench.sizes import FULL, Sizes
from ltdd_ray.bench.timing import alternate, prepare, ratios, say, timed
from ltdd_ray.common.device import default_device
from ltdd_ray.common.seeding import derive_seed, generator
from ltdd_ray.config import EvaluateConfig, ModelConfig
from ltdd_ray.evaluate.sets import TrainingSet
from ltdd_ray.evaluate.train import train_network
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.networks import build_network


def measure(repeats: int, sizes: Sizes = FULL) -> list[Result]:
    """Print the times for all networks and give their ratio."""
    prepare(sizes.threads)
    work = _Evaluation(sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(SEED, "benchmark-loader"))
        times = alternate(timed({"published": work.published, "engine": work.engine}), repeats)
    say(f"{sizes.networks} networks, {sizes.evaluation_epochs} epochs", times)
    return [
        Result.of(
            "evaluate_vs_published", ratios(times["published"], times["engine"]), 1.5, "higher"
        )
    ]


class _Evaluation:
    """Networks 0, 1, ... trained on one set of random images by the published settings, as the engine and as published."""

    def __init__(self, sizes: Sizes) -> None:
        draw = generator(SEED, "benchmark-evaluation")
        images = torch.randn(sizes.images, *sizes.image_shape, generator=draw)
        soft_labels = torch.randn(sizes.images, sizes.classes, generator=draw).softmax(1)
        self._settings = EvaluateConfig(networks=sizes.networks, epochs=sizes.evaluation_epochs)
        self._given = TrainingSet(images, soft_labels, self._settings.lr).to(default_device())
        self._augment = Augmentation(sizes.augmentation)
        self._sizes = sizes

    def engine(self) -> None:
        config = ModelConfig(width=self._sizes.width, depth=self._sizes.depth)
        for network in range(self._sizes.networks):
            seed = derive_seed(SEED, "benchmark-network", network)
            model = build_network(config, self._sizes.image_shape, self._sizes.classes, seed).to(
                default_device()
            )
            train_network(model, self._given, self._settings, self._augment, seed)

    def published(self) -> None:
        for network in range(self._sizes.networks):
            draw = generator(SEED, "benchmark-network", network)
            published.train_network(
                published_network(self._sizes),
                self._given.images,
                self._given.soft_labels,
                lambda images, draw=draw: self._augment(images, draw),
                epochs=self._settings.epochs,
                batch_size=self._settings.batch_size,
                lr=self._given.learning_rate,
                momentum=self._settings.momentum,
                weight_decay=self._settings.weight_decay,
            )
