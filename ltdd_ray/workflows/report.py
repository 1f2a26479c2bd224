"""``ltdd-ray report``: from the places a user names to the page about them."""

from collections.abc import Sequence
from os.path import commonpath
from pathlib import Path

from ltdd_ray.common.errors import UserError
from ltdd_ray.config.loading import load_config
from ltdd_ray.report.comparison import write_comparison
from ltdd_ray.report.page import write_report


def report(places: Sequence[Path], output: Path | None) -> Path:
    """Write the page of one run, by default ``report.html`` in its folder, or one that compares several, by default
    ``compare.html`` in the folder that holds them all; returns its path.

    A place is a run's folder, the folder of a comparison, which stands for all runs in it, or a config, which stands for its run.
    Raises ``UserError`` naming the place that is none of these, or the stage that its run still needs.
    """
    runs = {folder.resolve(): folder for place in places for folder in _run_folders(place)}
    if len(runs) == 1:
        return write_report(next(iter(runs.values())), output)
    return write_comparison([*runs.values()], output or Path(commonpath(runs)) / "compare.html")


def _run_folders(place: Path) -> list[Path]:
    if place.is_file():
        if place.suffix not in (".yaml", ".yml"):
            raise UserError(
                f"{place}: neither the folder of a run nor a config; give the folder that `ltdd-ray run` wrote"
            )
        folder = load_config(place).folder
        if not folder.exists():
            raise UserError(
                f"{place}: its run, {folder}, is not there; `ltdd-ray run {place}` makes it, or name another folder"
            )
        return [folder]
    inner = [results.parent for results in sorted(place.glob("*/results.json"))]
    return inner if inner and not (place / "results.json").exists() else [place]
