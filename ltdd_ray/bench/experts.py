"""Expert training against a DataLoader loop, and the classifier stage against its representation stage.

N training images, random pixels under CIFAR-10-LT's profile at a tenth of its size: what they show costs no time.
"""

from functools import partial
from statistics import median

import numpy as np
import torch

from ltdd_ray.bench.problem import SEED, published_network
from ltdd_ray.bench.published import experts as published
from ltdd_ray.bench.result import Result
from ltdd_ray.bench.sizes import FULL, Sizes
from ltdd_ray.bench.timing import alternate, prepare, ratios, say, timed
from ltdd_ray.common.device import default_device
from ltdd_ray.common.seeding import derive_seed
from ltdd_ray.config import ClassifierStage, ModelConfig, RepresentationStage
from ltdd_ray.data.longtail import long_tail_counts
from ltdd_ray.experts.train import classifier_stage, representation_stage
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.networks import build_network

GSAM_STAGE = RepresentationStage()  # as published; two gradients a step
SGD_STAGE = RepresentationStage(sharpness="none")
CLASSIFIER_STAGE = ClassifierStage()


def measure(repeats: int, sizes: Sizes = FULL) -> list[Result]:
    """Print the times per epoch and give the ratios.

    The representation stages are timed over ``sizes.expert_epochs`` and the published classifier stage over one, as an epoch
    costs what any other does. The engine's classifier stage runs all of its epochs, in case it saves work between them.
    """
    prepare(sizes.threads)
    work = Experts(sizes)
    works = {
        "published": work.published_representation,
        "engine": partial(work.representation, SGD_STAGE),
        "engine, GSAM": partial(work.representation, GSAM_STAGE),
        "classifier stage published": work.published_classifier,
        "classifier stage engine": work.classifier,
    }
    epochs = dict(zip(works, (*[sizes.expert_epochs] * 3, 1, CLASSIFIER_STAGE.epochs)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(SEED, "benchmark-transforms"))
        times = alternate(timed(works), repeats)
    per_epoch = {name: [t / epochs[name] for t in found] for name, found in times.items()}
    say(f"expert of {len(work.labels)} images, one epoch", per_epoch)
    stages = {
        name: [t * stage.epochs for t in per_epoch[name]]
        for name, stage in (("engine, GSAM", GSAM_STAGE), ("engine", SGD_STAGE))
    }
    shares = {
        name: ratios(times["classifier stage engine"], stage) for name, stage in stages.items()
    }
    print(
        f"classifier stage as a share of a representation stage of plain SGD: {median(shares['engine']):.3f}"
    )
    return [
        Result.of(
            "expert_images_vs_published", ratios(times["published"], times["engine"]), 1.7, "higher"
        ),
        Result.of("classifier_stage_share", shares["engine, GSAM"], 0.10, "lower"),
    ]


class Experts:
    """Both stages of one expert on the same images, as the engine and as published."""

    def __init__(self, sizes: Sizes) -> None:
        draw = np.random.default_rng(derive_seed(SEED, "benchmark-images"))
        counts = long_tail_counts(sizes.largest_class, sizes.imbalance_factor, sizes.classes)
        labels, test_labels = (
            np.repeat(np.arange(sizes.classes), n) for n in (counts, sizes.test_per_class)
        )
        pixels, test_pixels = (
            draw.integers(0, 256, (len(y), sizes.image_size, sizes.image_size, 3), dtype=np.uint8)
            for y in (labels, test_labels)
        )
        self._sizes = sizes
        self._train = published.Images(pixels, labels, published.train_transform(sizes.image_size))
        self._test = published.Images(test_pixels, test_labels, published.TEST_TRANSFORM)
        device = default_device()
        self.images = (
            torch.tensor(pixels, device=device).permute(0, 3, 1, 2).contiguous() / 127.5 - 1
        )
        self.labels = torch.tensor(labels, device=device)
        network = build_network(
            ModelConfig(width=sizes.width, depth=sizes.depth),
            sizes.image_shape,
            sizes.classes,
            SEED,
        )
        self._flat = FlatModel(network.to(device))
        self._augment = Augmentation(sizes.augmentation)

    def representation(self, stage: RepresentationStage) -> None:
        stage = stage.model_copy(update={"epochs": self._sizes.expert_epochs})
        list(
            representation_stage(
                stage, self._flat, self.images, self.labels, self._augment, SEED, expert=0
            )
        )

    def classifier(self) -> None:
        theta = self._flat.initial()
        list(
            classifier_stage(
                CLASSIFIER_STAGE,
                self._flat,
                theta,
                self.images,
                self.labels,
                self._augment,
                SEED,
                expert=0,
            )
        )

    def published_representation(self) -> None:
        published.representation_stage(
            published_network(self._sizes),
            self._train,
            self._test,
            epochs=self._sizes.expert_epochs,
            batch_size=SGD_STAGE.batch_size,
            lr=SGD_STAGE.lr,
            momentum=SGD_STAGE.momentum,
            weight_decay=SGD_STAGE.weight_decay,
        )

    def published_classifier(self) -> None:
        published.classifier_stage(
            published_network(self._sizes),
            self._train,
            self._test,
            epochs=1,
            batch_size=CLASSIFIER_STAGE.batch_size,
            lr=CLASSIFIER_STAGE.lr,
        )
