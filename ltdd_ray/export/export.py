"""``ltdd-ray export``: write a distilled set for other tools."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import new_folder, usable_path
from ltdd_ray.distill.artifact import DistilledSet, find_distilled
from ltdd_ray.evaluate.plan import measured_on
from ltdd_ray.export.card import read_results, render_card, run_of
from ltdd_ray.export.dd_ranking import statistics
from ltdd_ray.export.layouts import LAYOUTS
from ltdd_ray.report.finished import fitting_files


@dataclass(frozen=True)
class Export:
    """A finished export.

    ``images`` counts the written files or rows, ``mosaics`` the stored images that they were cut
    from; the two are equal without mosaics. ``clipped`` is the share 0..1 of pixel values outside
    0..255, which image files cannot hold, or None where the layout holds all values exactly.
    ``results`` is the run's results.json, empty before the evaluation. ``stale`` tells that they
    are those of another set, and left out.
    """

    folder: Path
    images: int
    mosaics: int
    clipped: float | None
    results: dict[str, Any]
    stale: bool = False

    def sentences(self) -> list[str]:
        """What to tell the user."""
        source = f", cut from {self.mosaics} mosaics," if self.mosaics < self.images else ""
        lost = (
            "no pixel value is clipped or rounded"
            if self.clipped is None
            else f"clipped {100 * self.clipped:.2f} % of the pixel values to 0..255; {self._cost()}"
        )
        lines = [
            f"wrote {self.images} images{source} with their soft labels to {self.folder}",
            lost,
            f"add the licence at the top of {self.folder / 'README.md'} before you publish the set",
        ]
        if self.stale:
            lines.append(
                "results.json is of another set, so the card has no accuracies; run `ltdd-ray "
                "evaluate` with the run's config and export again"
            )
        return lines

    def _cost(self) -> str:
        sets = self.results.get("sets", {})
        if not {"distilled", "distilled_8bit"} <= set(sets):
            return "to measure the effect on accuracy, add `distilled_8bit` to evaluate.sets"
        exact, rounded = (
            100 * sets[name]["accuracy"]["mean"] for name in ("distilled", "distilled_8bit")
        )
        shares = f"{exact:.1f} % before and {rounded:.1f} % after rounding to 8 bits"
        return f"balanced accuracy is {shares}"


def export(place: Path, layout: str, output: Path | None, licence: str | None = None) -> Export:
    """Write the set at ``place`` as ``layout``, one of the keys of :data:`LAYOUTS`.

    ``place`` is a run's folder, its folder ``distilled``, or the file. The default ``output`` is a
    new folder beside the file. ``licence`` is written into the card. The folder is complete or
    absent, even after a crash. Raises ``UserError`` where there is no set, where ``output`` exists
    or cannot be written, and for a set that the layout cannot hold.
    """
    file = find_distilled(place)
    folder = Path(usable_path(str(output or file.with_name(layout))))
    if folder.exists():
        raise UserError(
            f"{folder}: exists already and is not overwritten; "
            "remove it, or choose another folder with --output"
        )
    distilled, results = DistilledSet.load(file), read_results(file)
    stale = not measured_on(results, file)
    if stale:
        results = {}
    with fitting_files(run_of(file)):
        card = render_card(distilled, results, layout, licence)
        exact = layout == "dd_ranking" or torch.equal(
            distilled.images, distilled.in_8_bits().images
        )
        clipped = None if exact else distilled.clipped_share()
        exported = Export(folder, len(distilled), len(distilled.images), clipped, results, stale)
        exported.sentences()  # raises before anything is written
    try:
        with new_folder(folder) as draft:
            write_files(distilled, layout, card, draft)
    except OSError as error:
        raise UserError(
            f"{folder}: not writable: {error.strerror or error}; "
            "choose another folder with --output"
        ) from error
    return exported


def write_files(distilled: DistilledSet, layout: str, card: str, folder: Path) -> None:
    """Write the set as ``layout``, training.json and the card into the empty ``folder``."""
    LAYOUTS[layout](distilled, folder)
    recipe = json.dumps(_recipe(distilled, layout), indent=2) + "\n"
    (folder / "training.json").write_text(recipe)
    (folder / "README.md").write_bytes(card.encode())


def _recipe(distilled: DistilledSet, layout: str) -> dict[str, Any]:
    """The content of training.json.

    The input of a network is (pixels / 255 - mean) / std, then whitened for both kinds of ZCA. In
    the layout of DD-Ranking it is the images themselves.
    """
    kind, normalisation = distilled.normalisation.kind, distilled.normalisation
    mean, std = normalisation.mean, normalisation.std
    if layout == "dd_ranking":
        kind, (mean, std) = "standard", statistics(distilled)
    return {
        "class_names": distilled.class_names,
        "learning_rate": distilled.learning_rate,
        "augmentation": distilled.augmentation,
        "normalisation": kind,
        "mean": mean.flatten().tolist(),
        "std": std.flatten().tolist(),
    }
