"""The layouts of an export: images with their soft labels, in an empty folder.

All but the layout of DD-Ranking hold 8-bit images.
Hard labels are the classes for which the images were initialised. Train on the soft labels.
Shapes: M images, C classes, K channels, H height, W width.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.export.dd_ranking import write_dd_ranking

PARQUET_FILE = "data/train-00000-of-00001.parquet"


def write_imagefolder(distilled: DistilledSet, folder: Path) -> None:
    """``train/CLASS/00000.png`` for torchvision and Hugging Face, and ``soft_labels.csv``.

    Columns of the CSV file: file_name, label, and one per class.
    """
    names = folder_names(distilled.class_names)
    rows = []
    for number, (png, label, soft_label) in enumerate(_rows(distilled)):
        file = Path("train") / names[label] / f"{number:05d}.png"
        (folder / file.parent).mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(png)
        rows.append([file.as_posix(), label, *(f"{p:.9g}" for p in soft_label)])
    with (folder / "soft_labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file_name", "label", *names], *rows])


def write_parquet(distilled: DistilledSet, folder: Path) -> None:
    """A Parquet file with the columns ``image`` {bytes, path}, ``label`` and ``soft_label``.

    Its schema metadata is that of the ``datasets`` library.
    """
    images, labels, soft_labels = zip(*_rows(distilled))
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    columns = [
        pa.array(
            [{"bytes": png, "path": f"{number:05d}.png"} for number, png in enumerate(images)],
            image,
        ),
        pa.array(labels, pa.int64()),
        pa.array(soft_labels, pa.list_(pa.float32())),
    ]
    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": list(distilled.class_names)},
        "soft_label": {"_type": "Sequence", "feature": {"dtype": "float32", "_type": "Value"}},
    }
    table = pa.table(
        columns,
        list(features),
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    (folder / PARQUET_FILE).parent.mkdir()
    pq.write_table(table, folder / PARQUET_FILE)


def write_npz(distilled: DistilledSet, folder: Path) -> None:
    """``distilled.npz`` with the arrays of MedMNIST and those that training needs.

    ``train_images`` (M, H, W) or (M, H, W, 3), ``train_labels`` (M,), ``soft_labels`` float32
    (M, C), ``class_names`` (C,), ``learning_rate`` (), ``mean`` and ``std`` (K,).
    """
    images = distilled.pixels().permute(0, 2, 3, 1).numpy()
    np.savez_compressed(
        folder / "distilled.npz",
        train_images=images[..., 0] if images.shape[3] == 1 else images,
        train_labels=distilled.classes.numpy(),
        soft_labels=distilled.soft_labels.numpy(),
        class_names=np.array(distilled.class_names),
        learning_rate=distilled.learning_rate,
        mean=distilled.normalisation.mean.flatten().numpy(),
        std=distilled.normalisation.std.flatten().numpy(),
    )


LAYOUTS: dict[str, Callable[[DistilledSet, Path], None]] = {
    "imagefolder": write_imagefolder,
    "parquet": write_parquet,
    "npz": write_npz,
    "dd_ranking": write_dd_ranking,
}


def folder_names(class_names: Sequence[str]) -> list[str]:
    """A folder name per class, in label order when sorted, because readers number sorted folders.

    These are the class names if they sort so and are valid file names, else ``LABEL_NAME``.
    """
    fit = [re.sub(r"[^\w .+-]", "_", name).strip(" .") for name in class_names]
    if fit == list(class_names) and fit == sorted({name.casefold(): name for name in fit}.values()):
        return fit
    digits = len(str(len(fit) - 1))
    return [f"{label:0{digits}d}_{name}" for label, name in enumerate(fit)]


def _rows(distilled: DistilledSet) -> Iterator[tuple[bytes, int, list[float]]]:
    """(PNG, label, soft label) of each image."""
    for pixels, label, soft_label in zip(
        distilled.pixels().numpy(), distilled.classes.tolist(), distilled.soft_labels.tolist()
    ):
        png = BytesIO()
        Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(
            png, "png"
        )
        yield png.getvalue(), label, soft_label
