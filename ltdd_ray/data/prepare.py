"""What every later room starts from: the images to learn from, the images to be judged on, and the way into model space."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ltdd_ray.config import RunConfig
from ltdd_ray.data.dataset import LabelledImages, LongTailedDataset
from ltdd_ray.data.load import load_data
from ltdd_ray.data.normalisation import Normalisation


@dataclass(frozen=True, eq=False)
class PreparedData:
    """Training images, evaluation images (the split ``evaluate.split`` names) and the normalisation fitted on the former."""

    train: LongTailedDataset
    evaluation: LabelledImages
    normalisation: Normalisation

    @property
    def nbytes(self) -> int:
        """Bytes of all images."""
        return self.train.images.nbytes + self.evaluation.images.nbytes


def prepare_data(config: RunConfig) -> PreparedData:
    """Load, cut and fit once per run; everything in it travels to workers as plain arrays."""
    splits = load_data(config.data, config.seed)
    evaluation = splits.validation if config.evaluate.split == "validation" else splits.test
    assert evaluation is not None  # the config refuses `validation` without a validation_fraction
    return PreparedData(splits.train, evaluation, Normalisation.fit(splits.train.images, config.data.normalisation))


def model_space(dataset: LabelledImages, normalisation: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    """All images (N, K, H, W) float32 in model space and labels (N,) int64, resident on ``device``."""
    normalisation = normalisation.to(device)
    # torch warns about arrays that are not writable, which those in Ray's object store are; the pieces are copied anyway.
    pieces = [normalisation.apply(torch.tensor(part, device=device)) for part in _chunks(dataset)]
    return torch.cat(pieces), torch.tensor(dataset.labels, dtype=torch.int64, device=device)


def _chunks(dataset: LabelledImages, size: int = 2048):
    return (dataset.images[at : at + size] for at in range(0, len(dataset), size))
