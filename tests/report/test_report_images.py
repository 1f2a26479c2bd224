import base64
import io

import pytest
import torch
from PIL import Image

from ltdd_ray.data.normalisation import Normalisation
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.report import images
from ltdd_ray.report.images import galleries, png_data_uri


def save_set(folder, class_counts, ipc, name="distilled"):
    classes = torch.arange(len(class_counts)).repeat(
        ipc
    )  # interleaved: rows of a class do not lie together
    distilled = DistilledSet(
        images=torch.zeros(len(classes), 1, 4, 4),
        soft_labels=torch.eye(len(class_counts))[classes],
        classes=classes,
        learning_rate=0.01,
        normalisation=Normalisation(torch.zeros(1, 1, 1), torch.ones(1, 1, 1)),
        class_names=tuple(f"class {k}" for k in range(len(class_counts))),
        augmentation="",
    )
    distilled.save(folder, name)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_png_keeps_size_and_values(channels, mode):
    pixels = torch.arange(channels * 15).view(channels, 3, 5) / 255
    with Image.open(
        io.BytesIO(base64.b64decode(png_data_uri(pixels).partition(",")[2]))
    ) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", mode, (5, 3))
        assert picture.getpixel((4, 2)) == (14 if channels == 1 else (14, 29, 44))


def test_no_set_no_galleries(tmp_path):
    assert galleries(tmp_path, [3, 2]) == []


def test_every_image_lies_under_its_own_class(tmp_path):
    save_set(tmp_path, [2, 9, 4], ipc=2)
    shown = galleries(tmp_path, [2, 9, 4])
    assert [(g.name, g.count, g.total) for g in shown] == [
        ("class 1", 9, 2),
        ("class 2", 4, 2),
        ("class 0", 2, 2),
    ]
    assert all(tile.soft_label[0] == (g.name, 1.0) for g in shown for tile in g.after)
    assert all(g.before == [] for g in shown)


def test_large_sets_are_shown_in_part(tmp_path, monkeypatch):
    save_set(tmp_path, [5, 5], ipc=6)
    save_set(tmp_path, [5, 5], ipc=6, name="initial")
    monkeypatch.setattr(images, "PAGE_VALUES", 3 * 2 * 2 * 16)
    assert [(len(g.before), len(g.after), g.total) for g in galleries(tmp_path, [5, 5])] == [
        (3, 3, 6)
    ] * 2
