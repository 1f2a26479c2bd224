"""The data of a run: training images, evaluation images and the normalisation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ltdd_ray.config import RunConfig
from ltdd_ray.data.budget import class_budget
from ltdd_ray.data.count_estimate import CountEstimate
from ltdd_ray.data.dataset import LabelledImages, LongTailedDataset
from ltdd_ray.data.load import load_data
from ltdd_ray.data.mapped import MappedImages
from ltdd_ray.data.normalisation import Normalisation
from ltdd_ray.data.sources.imagenet import ShardWriter, write_in_process

IMAGES_AT_ONCE = 2048


@dataclass(frozen=True, eq=False)
class PreparedData:
    """Training images, the images of ``evaluate.split``, and the normalisation of the former.

    ``held_out`` are the images of ``data.validation_fraction``, if any. ``notes`` are sentences
    about what was converted, passed over or found twice.
    """

    train: LongTailedDataset
    evaluation: LabelledImages
    normalisation: Normalisation
    estimate: CountEstimate | None = None
    held_out: LabelledImages | None = None
    notes: tuple[str, ...] = ()

    @property
    def prior(self) -> np.ndarray:
        """float64 (C,): the class prior s_k that matching uses, counted or estimated."""
        return self.estimate.prior if self.estimate else self.train.prior

    @property
    def bytes_in_memory(self) -> int:
        """Bytes of all images."""
        return self.train.bytes_in_memory + self.evaluation.bytes_in_memory


def prepare_data(
    config: RunConfig,
    write_shards: ShardWriter = write_in_process,
    say: Callable[[str], None] = lambda sentence: None,
) -> PreparedData:
    """Load and divide the images, and fit the normalisation; for errors see ``load_data``.

    ``say`` gets a sentence before work that takes minutes.
    """
    splits = load_data(config.data, config.seed, write_shards)
    class_budget(
        config.distill, splits.train.class_counts.tolist()
    )  # raises its errors before any work
    evaluation = splits.validation if config.evaluate.split == "validation" else splits.test
    assert evaluation is not None  # the config requires a validation_fraction
    normalisation = Normalisation.fit(splits.train.images, config.data.normalisation, say)
    return PreparedData(
        splits.train, evaluation, normalisation, splits.estimate, splits.validation, splits.notes
    )


class LazyImages:
    """Mapped images in model space, read and normalised when they are indexed.

    Supports what the training loops use of a tensor (N, K, H, W): ``len``, ``[index]``, ``split``
    and ``device``.
    """

    def __init__(
        self, images: MappedImages, normalisation: Normalisation, device: torch.device
    ) -> None:
        self._images, self._normalisation, self.device = images, normalisation.to(device), device

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self._normalisation.apply(
            torch.tensor(self._images[index.cpu().numpy()], device=self.device)
        )

    def split(self, size: int) -> Iterator[Tensor]:
        return (self[index] for index in torch.arange(len(self)).split(size))


Images = Tensor | LazyImages


def model_space(
    dataset: LabelledImages, normalisation: Normalisation, device: torch.device
) -> tuple[Images, Tensor]:
    """Images (N, K, H, W) float32 in model space and labels (N,) int64, both on ``device``.

    The images are resident there and take four times the bytes of the dataset. Images mapped from
    disk stay on disk (:class:`LazyImages`).
    """
    labels = torch.tensor(dataset.labels, dtype=torch.int64, device=device)
    if isinstance(dataset.images, MappedImages):
        return LazyImages(dataset.images, normalisation, device), labels
    normalisation = normalisation.to(device)
    images = torch.empty(dataset.images.shape, dtype=torch.float32, device=device)
    for there, part in zip(images.split(IMAGES_AT_ONCE), _chunks(dataset.images)):
        # torch.tensor copies. torch.from_numpy would warn, as arrays of Ray's store are read-only.
        there.copy_(normalisation.apply(torch.tensor(part, device=device)))
    return images, labels


def _chunks(images: np.ndarray) -> Iterator[np.ndarray]:
    return (images[at : at + IMAGES_AT_ONCE] for at in range(0, len(images), IMAGES_AT_ONCE))
