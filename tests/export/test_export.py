"""Every layout holds the 8-bit images and soft labels, and other tools can read it."""

import csv
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torchvision.datasets import ImageFolder

from ltdd_ray.cli import main as cli
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig
from ltdd_ray.data.sources import load_source
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.export.card import render_card, write_card
from ltdd_ray.export.export import export
from ltdd_ray.export.layouts import LAYOUTS, folder_names

Make = Callable[..., DistilledSet]
FILES = [layout for layout in LAYOUTS if layout != "dd_ranking"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", FILES)
def test_our_own_sources_read_every_layout(
    make_set: Make, layout: str, channels: int, tmp_path: Path
) -> None:
    distilled = make_set(channels)
    folder = export(distilled.save(tmp_path), layout, None).folder
    place = {"imagefolder": folder, "parquet": folder / "data", "npz": folder / "distilled.npz"}[
        layout
    ]
    found, _ = load_source(DataConfig.model_validate({"source": layout, "path": str(place)}))
    np.testing.assert_array_equal(found.images, distilled.pixels().numpy())
    assert found.labels.tolist() == distilled.classes.tolist()
    assert found.class_names == (("0", "1", "2") if layout == "npz" else distilled.class_names)


def test_soft_labels_survive_every_layout(make_set: Make, tmp_path: Path) -> None:
    distilled = make_set(class_names=("owl", "cat"))
    file = distilled.save(tmp_path)
    folders = {layout: export(file, layout, None).folder for layout in FILES}

    images = ImageFolder(str(folders["imagefolder"] / "train"))
    assert images.classes == ["0_owl", "1_cat"] and images.targets == distilled.classes.tolist()
    with (folders["imagefolder"] / "soft_labels.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [str(folders["imagefolder"] / row["file_name"]) for row in rows] == [
        path for path, _ in images.samples
    ]
    np.testing.assert_array_equal(
        np.float32([[row[name] for name in images.classes] for row in rows]),
        distilled.soft_labels.numpy(),
    )

    table = pq.read_table(folders["parquet"] / "data")
    assert torch.equal(torch.tensor(table["soft_label"].to_pylist()), distilled.soft_labels)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == table.column_names and features["label"]["names"] == ["owl", "cat"]

    with np.load(folders["npz"] / "distilled.npz") as arrays:
        assert np.array_equal(arrays["soft_labels"], distilled.soft_labels.numpy())
        assert (
            arrays["class_names"].tolist() == ["owl", "cat"]
            and float(arrays["learning_rate"]) == 0.03
        )
        seen = (
            arrays["train_images"].transpose(0, 3, 1, 2) / 255 - arrays["mean"][:, None, None]
        ) / arrays["std"][:, None, None]
    torch.testing.assert_close(
        torch.tensor(seen, dtype=torch.float32), distilled.in_8_bits().images
    )


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (("a", "b"), ["a", "b"]),
        (("b", "a"), ["0_b", "1_a"]),
        (("crane", "crane"), ["0_crane", "1_crane"]),
        (("Crane", "crane"), ["0_Crane", "1_crane"]),
        (("a/b", "../c"), ["0_a_b", "1__c"]),
        (tuple("kjihgfedcba"), [f"{k:02d}_{name}" for k, name in enumerate("kjihgfedcba")]),
    ],
)
def test_folders_sort_in_label_order(names: tuple[str, ...], folders: list[str]) -> None:
    assert folder_names(names) == folders == sorted(folders)


def test_the_command_reports_the_clipping_and_never_overwrites(
    make_set: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_set().save(tmp_path / "runs" / "a" / "distilled")
    run, output = str(tmp_path / "runs" / "a"), tmp_path / "out"
    assert cli.main(["export", run, "--to", "npz", "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert f"6 images with their soft labels to {output}" in said
    assert (
        f"clipped {100 / (6 * 3 * 72):.2f} % of the pixel values to 0..255" in said
        and "distilled_8bit" in said
    )

    (output / "mine.txt").touch()
    assert cli.main(["export", run, "--to", "npz", "--output", str(output)]) == 1
    assert (
        "is not overwritten; remove it, or choose another folder with --output"
        in capsys.readouterr().err
    )
    assert (output / "mine.txt").exists()

    exact, rounded = (
        {"accuracy": {"mean": mean, "std": None, "runs": [mean]}, "groups": {}, "labels": "soft"}
        for mean in (0.436, 0.431)
    )
    sets = {"distilled": exact, "distilled_8bit": rounded}
    results = {"name": "a", "split": "test", "model": {"name": "convnet"}, "sets": sets}
    (tmp_path / "runs" / "a" / "results.json").write_text(json.dumps(results))
    assert (
        "accuracy is 43.6 % before and 43.1 % after rounding to 8 bits"
        in export(Path(run), "npz", tmp_path / "b").sentences()[1]
    )


def test_the_results_of_another_set_are_left_out(make_set: Make, tmp_path: Path) -> None:
    file = make_set().save(tmp_path / "distilled")
    one = {
        "accuracy": {"mean": 0.436, "std": None, "runs": [0.436]},
        "groups": {},
        "labels": "soft",
    }
    results = {
        **{"name": "a", "split": "test", "model": {"name": "convnet"}, "sets": {"distilled": one}},
        "distilled_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert "43.6" in write_card(file).read_text()
    assert not any("another set" in one for one in export(file, "npz", None).sentences())

    make_set(kind="zca").save(tmp_path / "distilled")
    assert "43.6" not in write_card(file).read_text()
    exported = export(file, "parquet", None)
    assert "43.6" not in (exported.folder / "README.md").read_text()
    assert (
        "results.json is of another set, so the card has no accuracies"
        in (exported.sentences()[-1])
    )


@pytest.mark.parametrize(
    "change",
    [{"sets": [1]}, {"sets": {"distilled": 5}}, {"sets": {"distilled": {}}}, {"model": None}],
)
def test_altered_results_are_one_sentence_and_nothing_is_written(
    make_set: Make, tmp_path: Path, change: dict[str, Any]
) -> None:
    file = make_set().save(tmp_path / "distilled")
    one = {"accuracy": {"mean": 0.4, "std": None, "runs": [0.4]}, "groups": {}}
    sets = {"distilled": one, "distilled_8bit": one}
    results = {"name": "a", "split": "test", "model": {"name": "convnet"}, "sets": sets}
    (tmp_path / "results.json").write_text(json.dumps(results | change))
    with pytest.raises(UserError, match=r"results\.json lacks what is shown"):
        export(file, "npz", None)
    with pytest.raises(UserError, match=r"results\.json lacks what is shown"):
        write_card(file)
    assert {entry.name for entry in (tmp_path / "distilled").iterdir()} == {
        "distilled.json",
        "distilled.safetensors",
    }


def test_a_failed_export_leaves_nothing(
    make_set: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    file = make_set().save(tmp_path)
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr("ltdd_ray.export.export._recipe", full)
    with pytest.raises(
        UserError,
        match="not writable: No space left on device; choose another folder with --output",
    ):
        export(file, "imagefolder", None)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("layout", FILES)
def test_mosaics_are_exported_as_pictures_and_the_card_says_so(
    make_set: Make, layout: str, tmp_path: Path
) -> None:
    """Six stored images of 2 x 2 pictures: 24 files or rows, each with its own soft label."""
    plain = make_set(size=(8, 8))
    mosaics = replace(
        plain,
        pictures_per_side=2,
        soft_labels=torch.rand(24, 3, generator=torch.Generator().manual_seed(0)).softmax(1),
        classes=plain.classes.repeat_interleave(4),
    )
    found = export(mosaics.save(tmp_path), layout, None)
    assert found.images == 24 and found.mosaics == 6
    assert "wrote 24 images, cut from 6 mosaics, with their soft labels" in found.sentences()[0]
    card = " ".join((found.folder / "README.md").read_text().split())
    assert "24 synthetic images of 8 x 8 pixels (colour), 8 for each of 3 classes" in card
    assert "distilled as 6 mosaics of 4 pictures each" in card
    native = " ".join(render_card(mosaics, {}, "native").split())
    assert "stored as 6 mosaics of 4 pictures each" in native
    assert "mosaic" not in render_card(plain, {}, layout)
    place = {"parquet": found.folder / "data", "npz": found.folder / "distilled.npz"}
    source = {"source": layout, "path": str(place.get(layout, found.folder))}
    images, _ = load_source(DataConfig.model_validate(source))
    np.testing.assert_array_equal(images.images, mosaics.pixels().numpy())


def benchmark_set(make_set: Make, **changes) -> DistilledSet:
    plain = make_set(class_names=tuple("abcdefghij"))
    shuffled = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    return replace(
        plain,
        images=plain.images[shuffled],
        soft_labels=plain.soft_labels[shuffled],
        classes=plain.classes[shuffled],
        **{"provenance": {"dataset": "cifar10"}, **changes},
    )


def test_dd_ranking_gets_exact_images_in_its_normalisation(make_set: Make, tmp_path: Path) -> None:
    distilled = benchmark_set(make_set)
    distilled.soft_labels[3] = torch.eye(10)[4]  # a probability of 0 has a finite logit
    found = export(distilled.save(tmp_path), "dd_ranking", None)
    assert found.clipped is None and "no pixel value is clipped" in found.sentences()[1]
    images, labels, lr = (
        torch.load(found.folder / f"{name}.pt", weights_only=True)
        for name in ("images", "labels", "lr")
    )
    order = [p for k in range(10) for p in range(20) if distilled.classes[p] == k]
    for at, picture in enumerate(order):
        pixels = distilled.normalisation.invert(distilled.images[[picture]])[0]
        for channel, (mean, std) in enumerate(
            ((0.4914, 0.2023), (0.4822, 0.1994), (0.4465, 0.2010))
        ):
            torch.testing.assert_close(images[at, channel], (pixels[channel] - mean) / std)
    torch.testing.assert_close(labels.softmax(1), distilled.soft_labels[order])
    assert labels.isfinite().all() and float(lr) == pytest.approx(0.03)
    recipe = json.loads((found.folder / "training.json").read_text())
    assert (recipe["mean"][0], recipe["std"][2]) == pytest.approx((0.4914, 0.2010))
    card = " ".join((found.folder / "README.md").read_text().split())
    assert "labels are logits" in card and "(pixels / 255" not in card and "8 bits" not in card


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"provenance": {"dataset": "digits"}}, "was made from digits with 10 classes"),
        ({"provenance": {"dataset": "cifar100"}}, "cifar100 with 10 classes and 3 channels"),
        (
            {"classes": torch.tensor([0] * 3 + [1] + [k for k in range(2, 10) for _ in "ab"])},
            "1 to 3",
        ),
    ],
)
def test_dd_ranking_refuses_what_it_cannot_read(
    make_set: Make, tmp_path: Path, changes: dict, message: str
) -> None:
    file = replace(benchmark_set(make_set), **changes).save(tmp_path)
    with pytest.raises(UserError, match=f"{message}.*choose another layout with --to"):
        export(file, "dd_ranking", None)
    assert not (tmp_path / "dd_ranking").exists()
