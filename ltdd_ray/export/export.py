"""``ltdd-ray export``: a distilled set for tools that know nothing of this project."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import new_folder
from ltdd_ray.distill.artifact import DistilledSet, find_distilled
from ltdd_ray.export.card import read_results, render_card
from ltdd_ray.export.layouts import LAYOUTS


@dataclass(frozen=True)
class Export:
    """What was written where.

    ``clipped`` is the share 0..1 of pixel values that image files cannot hold; ``results`` are the run's, empty if it has none.
    """

    folder: Path
    images: int
    clipped: float
    results: dict[str, Any]

    def sentences(self) -> list[str]:
        return [
            f"wrote {self.images} images with their soft labels to {self.folder}",
            f"{100 * self.clipped:.2f} % of the pixel values lay outside 0..255 and were clipped; {self._cost()}",
            f"fill in the licence at the top of {self.folder / 'README.md'} before you publish the set",
        ]

    def _cost(self) -> str:
        sets = self.results.get("sets", {})
        if not {"distilled", "distilled_8bit"} <= set(sets):
            return "what 8 bits cost in accuracy is measured by a run with `distilled_8bit` in evaluate.sets"
        exact, rounded = (
            100 * sets[name]["accuracy"]["mean"] for name in ("distilled", "distilled_8bit")
        )
        return f"accuracy with the set as distilled {exact:.1f} %, with its 8-bit images {rounded:.1f} %"


def export(place: Path, layout: str, output: Path | None) -> Export:
    """Write the set of ``place`` (a run's folder, its ``distilled`` folder, or the file) as ``layout``, by default beside its file.

    The folder appears whole or not at all. Raises ``UserError`` where there is no set, or something lies at the output already.
    """
    file = find_distilled(place)
    folder = (output or file.with_name(layout)).expanduser()
    if folder.exists():
        raise UserError(
            f"{folder}: exists already and is not overwritten; remove it, or choose another folder with --output"
        )
    distilled, results = DistilledSet.load(file), read_results(file)
    try:
        with new_folder(folder) as draft:
            LAYOUTS[layout](distilled, draft)
            (draft / "training.json").write_text(json.dumps(_recipe(distilled), indent=2) + "\n")
            (draft / "README.md").write_text(render_card(distilled, results, layout))
    except OSError as error:
        raise UserError(
            f"{folder}: not writable: {error.strerror or error}; choose another folder with --output"
        ) from error
    return Export(folder, len(distilled), distilled.clipped_share(), results)


def _recipe(distilled: DistilledSet) -> dict[str, Any]:
    """How to train on the images: a network sees (pixels / 255 - mean) / std, whitened after that for both kinds of ZCA."""
    return {
        "class_names": distilled.class_names,
        "learning_rate": distilled.learning_rate,
        "augmentation": distilled.augmentation,
        "normalisation": distilled.normalisation.kind,
        "mean": distilled.normalisation.mean.flatten().tolist(),
        "std": distilled.normalisation.std.flatten().tolist(),
    }
