"""A checkpoint knows the images that it was made from; a damaged one is one sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ltdd_ray.common.errors import UserError
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.distill.checkpoint import (
    PROGRESS,
    finished_updates,
    load_checkpoint,
    save_checkpoint,
)


def images(value: int = 0, labels: tuple[int, ...] = (0, 0, 1)) -> LongTailedDataset:
    pixels = np.full((3, 1, 4, 4), value, np.uint8)
    return LongTailedDataset(pixels, np.array(labels), ("a", "b"))


def load(folder: Path, train: LongTailedDataset) -> int:
    model = nn.Linear(2, 2)
    return load_checkpoint(folder, model, torch.optim.SGD(model.parameters(), 0.1), train)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = nn.Linear(2, 2)
    save_checkpoint(tmp_path, model, torch.optim.SGD(model.parameters(), 0.1), 7, images())
    return tmp_path


def test_it_goes_on_with_the_same_images_alone(saved: Path) -> None:
    assert load(saved, images()) == finished_updates(saved) == 7
    for other in (images(value=1), images(labels=(0, 1, 1))):
        with pytest.raises(UserError, match=r"made from other training images .*delete the folder"):
            load(saved, other)


def test_one_of_an_older_version_is_read(saved: Path) -> None:
    (saved / PROGRESS).write_text(json.dumps({"update": 4}))
    assert load(saved, images(value=1)) == 4


@pytest.mark.parametrize("content", [None, "", "{", "[3]", "{}", '{"update": "3"}', "[" * 100_000])
def test_a_damaged_one_is_one_sentence(saved: Path, content: str | None) -> None:
    (saved / PROGRESS).unlink() if content is None else (saved / PROGRESS).write_text(content)
    with pytest.raises(UserError, match="not a readable checkpoint; remove"):
        load(saved, images())
    with pytest.raises(UserError, match="not a readable checkpoint; remove"):
        finished_updates(saved)
    assert finished_updates(None) == 0
