"""The contact sheet holds the set's 8-bit pixels, by class from head to tail, under its names."""

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltdd_ray.cli import main as cli
from ltdd_ray.common.errors import UserError
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.export import show as module
from ltdd_ray.export.show import GAP, LABEL_WIDTH, draw_sheet, show, terminal_image

Make = Callable[..., DistilledSet]
SCALE = 6  # the least whole number that makes 9 x 8 pixels 48 or more


def cell(sheet: Image.Image, row: int, column: int) -> np.ndarray:
    """A picture of the sheet, at its own size of 9 x 8 pixels: (9, 8, 3)."""
    width, height = 8 * SCALE, 9 * SCALE
    left, top = LABEL_WIDTH + column * (width + GAP), GAP + row * (height + GAP)
    shown = np.asarray(sheet.crop((left, top, left + width, top + height)))
    assert (shown == shown[::SCALE, ::SCALE].repeat(SCALE, 0).repeat(SCALE, 1)).all()
    return shown[::SCALE, ::SCALE]


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_are_classes_from_head_to_tail(
    make_set: Make, channels: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    distilled = replace(make_set(channels), class_counts=(7, 1200, 30))
    distilled.save(tmp_path / "run" / "distilled")
    assert cli.main(["show", str(tmp_path / "run")]) == 0
    file = tmp_path / "run" / "distilled" / "contact_sheet.png"
    assert capsys.readouterr().out == f"wrote {file}: 3 classes, 6 pictures\n"
    sheet = Image.open(file)
    pixels = distilled.pixels().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    for row, k in enumerate((1, 2, 0)):
        for column in range(2):
            np.testing.assert_array_equal(cell(sheet, row, column), pixels[2 * k + column])
    assert sheet.size == (LABEL_WIDTH + 2 * (8 * SCALE + GAP) + GAP, 3 * (9 * SCALE + GAP) + GAP)


def labels(sheet: Image.Image) -> list[np.ndarray]:
    """The label of each of three rows."""
    shown = np.asarray(sheet.crop((0, GAP, LABEL_WIDTH, sheet.height)))
    return [shown[row * (9 * SCALE + GAP) :][: 9 * SCALE] for row in range(3)]


def test_each_row_has_the_name_and_the_number_of_training_images(make_set: Make) -> None:
    rows = {k: [2 * k] for k in range(3)}
    whole = labels(draw_sheet(make_set(), rows))
    renamed = labels(draw_sheet(make_set(class_names=("cat", "dog", "emu")), rows))
    counted = labels(draw_sheet(replace(make_set(), class_counts=(1200, 5, 1186)), rows))
    unknown = labels(draw_sheet(replace(make_set(), class_counts=()), rows))
    for other, different in ((renamed, {2}), (counted, {1}), (unknown, {0, 1, 2})):
        assert {k for k in range(3) if not (whole[k] == other[k]).all()} == different
    assert all((label < 100).any() for label in unknown)  # the names


def test_a_large_set_is_shown_in_part(
    make_set: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS", 2)
    monkeypatch.setattr(module, "COLUMNS", 1)
    distilled = make_set()
    found = show(distilled.save(tmp_path), tmp_path / "new" / "part.png")
    assert found.sentence().endswith("part.png: 2 of 3 classes, 2 of 6 pictures")
    sheet, pixels = Image.open(found.file), distilled.pixels().permute(0, 2, 3, 1).numpy()
    for row, picture in enumerate((0, 4)):  # the head and the tail
        np.testing.assert_array_equal(cell(sheet, row, 0), pixels[picture])


def test_large_pictures_are_reduced_and_strange_names_drawn(make_set: Make) -> None:
    names = ("a\x1b[31m very long name that goes on", "\N{CJK UNIFIED IDEOGRAPH-732B}", "")
    distilled = make_set(class_names=names, size=(300, 40))
    sheet = draw_sheet(distilled, {0: [0, 1], 1: [2], 2: [4]})
    assert sheet.size == (LABEL_WIDTH + 2 * (17 + GAP) + GAP, 3 * (128 + GAP) + GAP)


def test_an_unusable_place_is_one_sentence(make_set: Make, tmp_path: Path) -> None:
    file = make_set().save(tmp_path)
    with pytest.raises(UserError, match=r"sheet\.jpg: the sheet is a PNG; give --output a name"):
        show(file, tmp_path / "sheet.jpg")
    with pytest.raises(UserError, match=r"x\.png: not writable: .*; choose another file with"):
        show(file, file / "x.png")
    with pytest.raises(UserError, match="run `ltdd-ray distill CONFIG` first"):
        show(tmp_path.parent, None)


@pytest.mark.parametrize(
    "environment", [{"KITTY_WINDOW_ID": "1"}, {"TERM": "xterm-kitty"}], ids=["window", "term"]
)
def test_kitty_gets_the_png_in_parts(environment: dict[str, str]) -> None:
    png = bytes(range(256)) * 20
    told = terminal_image(png, environment) or ""
    parts = [part.removeprefix("\x1b_G").split(";") for part in told.strip().split("\x1b\\")[:-1]]
    assert [keys for keys, _ in parts] == ["a=T,f=100,m=1", "m=0"]
    assert all(len(data) <= 4096 for _, data in parts)
    assert base64.b64decode("".join(data for _, data in parts)) == png


def test_iterm_gets_the_png_and_other_terminals_nothing() -> None:
    told = terminal_image(b"png", {"TERM_PROGRAM": "iTerm.app"}) or ""
    head, data = told.rstrip("\x07\n").split(":")
    assert head == "\x1b]1337;File=inline=1;size=3" and base64.b64decode(data) == b"png"
    assert terminal_image(b"png", {"TERM": "xterm-256color"}) is None
