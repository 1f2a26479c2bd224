import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from generatedkit import generated
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import load_config
from ltdd_ray.data.names import class_name, printable
from ltdd_ray.data.proposal import (
    few_test_images,
    resized_images,
    sensible_ipc,
    what_was_read,
    write_proposal,
)
from ltdd_ray.data.scan import Scan, scan_folder
from ltdd_ray.methods import METHODS, method_config, name_note


@pytest.mark.parametrize(
    ("counts", "ipc"),
    [
        ([5000, 500, 50], 50),
        ([500, 500], 50),
        ([100, 60, 20], 10),
        ([100, 60, 7], 5),
        ([1000, 1000, 1], 1),
        ([4, 4], 1),
    ],
)
def test_images_per_class_are_few_and_at_most_the_smallest_class(
    counts: list[int], ipc: int
) -> None:
    assert sensible_ipc(counts) == ipc


def propose(folder: Path, gpus: int = 0, **changes) -> tuple[RunConfig, str]:
    given = {
        "root": folder / "my photos!",
        "class_counts": {"a": 6000, "b # c": 900, "d: e": 60},
        "test": None,
        "sizes": frozenset({(40, 50), (500, 300)}),
        "short_side": 40,
        "colour": True,
    }
    file = folder / "new.yaml"
    file.unlink(missing_ok=True)
    write_proposal(Scan(**{**given, **changes}), file, cores=2, gpus=gpus)
    return load_config(file), file.read_text()


def test_a_proposal_fits_images_and_machine(tmp_path: Path) -> None:
    small, text = propose(tmp_path)
    assert (
        small.name == "my-photos"
        and small.data.path == str(tmp_path / "my photos!")
        and small.data.test_fraction == 0.2
    )
    assert (small.data.image_size, small.model.depth, small.model.width) == (32, 3, 32)
    assert (small.distill.ipc, small.distill.lr_image) == (10, 300)
    assert small.experts.representation.epochs == 44 and small.compute.num_actors == 2
    assert text.startswith("# 3 classes, 6,960 images:\n# 6,000 of a, 60 of d: e.\n# Written by")
    assert max(map(len, text.splitlines())) <= 100 + len(str(tmp_path))
    assert not re.search(r"[ \t]\n|\n\n|\{[{%]", text)

    large, _ = propose(tmp_path, gpus=2)
    assert (large.data.image_size, large.model.width, large.distill.ipc) == (32, 128, 20)
    assert large.compute.gpus_per_worker == 1 and large.compute.num_workers == 2

    tiny, _ = propose(
        tmp_path, short_side=5, colour=False, test=tmp_path / "test", class_counts={"a": 12, "b": 3}
    )
    assert (tiny.data.image_size, tiny.model.depth, tiny.distill.ipc, tiny.distill.lr_image) == (
        8,
        2,
        1,
        1,
    )
    assert tiny.data.test_fraction is None and tiny.experts.representation.epochs == 60


def test_from_28_pixels_on_a_proposal_is_the_most_accurate_method(tmp_path: Path) -> None:
    for side, method, engine in ((28, "tgdd_mosaic", "tgdd"), (24, "ltdd", "matching")):
        config, _ = propose(tmp_path, short_side=side)
        assert config.data.image_size == side and config.method == method
        assert config.distill.engine == engine and name_note(config) == ""
        assert config.model.norm == ("batch" if engine == "tgdd" else "instance")
        for other in METHODS:  # of a comparison
            assert method_config(config, other).method == other


def test_with_many_classes_an_image_holds_one_picture(tmp_path: Path) -> None:
    for classes, method, pictures in ((49, "tgdd_mosaic", 4), (50, "tgdd", 1)):
        config, text = propose(tmp_path, class_counts={f"c{k}": 100 for k in range(classes)})
        assert config.method == method and config.distill.pictures_per_image == pictures
        assert config.model.norm == "batch" and name_note(config) == ""
        assert ("2 x 2 pictures" in text) == (pictures == 4)
        for other in METHODS:
            assert method_config(config, other).method == other


def scan_of(counts: dict[str, int]) -> Scan:
    return Scan(Path("photos"), counts, None, frozenset({(8, 8)}), 8, False)


@pytest.mark.parametrize(
    ("owls", "said"),
    [
        (24, ()),
        (
            10,
            ("1 class will have fewer", "owl will have 2, so", "0.5 would give it 5, and leave 5"),
        ),
        (13, ("owl will have 3, so one of them is 33 points", "0.4 would give it 5, and leave 8")),
        (4, ("owl will have 1, so one of them is 100 points", "0.5 would give it 2, and leave 2")),
        (2, ("2 classes will have fewer than 5", "owl will have 1")),
    ],
)
def test_few_test_images_are_told_with_a_larger_share(
    tmp_path: Path, owls: int, said: tuple[str, ...]
) -> None:
    counts = {"cat": 900, "dog": 20 if owls == 2 else 300, "owl": owls}
    sentences = few_test_images(scan_of(counts))
    assert all(part in " ".join(sentences) for part in said) and bool(sentences) == bool(said)
    assert len(sentences) == (0 if owls == 24 else 1 if owls == 2 else 2)
    _, text = propose(tmp_path, class_counts=counts)
    for sentence in sentences:
        assert f"  # {sentence}.\n" in text
    assert text.count("test images;") == bool(sentences)


def test_few_images_of_a_test_part_are_told_without_a_share(tmp_path: Path) -> None:
    part = {"test": tmp_path / "photos" / "test", "class_counts": {"cat": 900, "owl": 30}}
    _, text = propose(tmp_path, **part, test_counts={"cat": 1100, "owl": 4})
    assert '  # Networks are tested on the 1,104 images of its folder "test".\n' in text
    assert "  # 1 class will have fewer than 5 test images; owl will have 4, so one of" in text
    assert "test_fraction" not in text
    _, text = propose(tmp_path, **part, test_counts={"cat": 5, "owl": 0})  # owl is not measured
    assert "will have fewer" not in text


PATHS = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=20)


@generated(60)
@given(
    steps=st.lists(PATHS, min_size=1, max_size=3),
    names=st.lists(st.text(max_size=9).map(class_name), min_size=2, max_size=5, unique=True),
    count=st.integers(2, 10**6),
)
@example(["photos \U0001f600"], ["a\ufffe", "# b\u2028"], 5)
@example(["~photos", "yes: [no]"], ["'", '"'], 5)
def test_any_proposal_reads_back(steps: list[str], names: list[str], count: int) -> None:
    root = Path(*steps)
    if printable(str(root)) != str(root):
        root = Path("photos")  # such a folder is refused before
    counts = {class_name(name): count + k for k, name in enumerate(names)}
    with TemporaryDirectory() as folder:
        config, text = propose(Path(folder), root=root, class_counts=counts)
    assert Path(str(config.data.path)) == root and config.data.source == "imagefolder"
    assert f"# {len(counts)} classes" in text
    assert re.fullmatch(r"[A-Za-z0-9._-]+", config.name)


def test_a_scan_counts_all_and_opens_some(tmp_path: Path) -> None:
    for part, count in (("train", 450), ("test", 3)):
        for name, mode in (("cat", "L"), ("owl", "RGB")):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for number in range(count if name == "cat" else 2):
                Image.new(mode, (20 + number % 2, 30)).save(folder / f"{number:03d}.png")
            (folder / "notes.txt").touch()
    found = scan_folder(tmp_path)
    assert found.class_counts == {"cat": 450, "owl": 2} and found.colour
    assert (found.test, found.test_images) == (tmp_path / "test", 5)
    assert found.test_counts == {"cat": 3, "owl": 2}
    assert what_was_read(found) == f"452 training images, and 5 test images of {tmp_path / 'test'}"
    assert found.sizes == {(20, 30), (21, 30)} and found.short_side in (20, 21)
    assert resized_images(found, gpus=0) == [
        "images of 2 sizes, up to 21 x 30, are resized to 16 x 16 pixels, data.image_size, which "
        "distorts those that are not square"
    ]
    square = replace(found, sizes=frozenset({(32, 32)}), short_side=32)
    assert resized_images(square, gpus=0) == []


def test_a_class_of_one_image_needs_test_images_of_its_own(tmp_path: Path) -> None:
    for name, count in (("cat", 3), ("owl", 1)):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(count):
            Image.new("L", (8, 8)).save(tmp_path / "train" / name / f"{number}.png")
    with pytest.raises(UserError, match="owl: holds a single image"):
        scan_folder(tmp_path)
    (tmp_path / "test" / "owl").mkdir(parents=True)
    assert scan_folder(tmp_path).class_counts == {"cat": 3, "owl": 1}
