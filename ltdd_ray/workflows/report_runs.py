"""``ltdd-ray report``: the HTML page of one run, or one page that compares several runs."""

from collections.abc import Sequence
from os.path import commonpath
from pathlib import Path

from ltdd_ray.common.address import is_address, shown
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import resolved
from ltdd_ray.report.comparison import write_comparison
from ltdd_ray.report.page import write_report
from ltdd_ray.runs.mirror import Mirror
from ltdd_ray.runs.place import place_of_run
from ltdd_ray.runs.remote import local_copy


def report_runs(places: Sequence[Path | str], output: Path | None) -> Path | str:
    """Write the page of the runs at ``places`` to ``output`` and return its path.

    One run gets ``report.html`` in its folder unless ``output`` is given. Several runs get
    ``compare.html`` in the folder that holds them all.

    A place is the folder of a run, the folder of a comparison (all runs in it), a config (the run
    it describes), or the address of a run, where the page of this one run is written to.
    Raises ``UserError`` for a place that is none of these, for a run that has no results yet, for
    an empty list, and for several runs with an address among them but no ``output``.
    """
    if not places:
        raise UserError("report: the list of runs is empty; name the folder of at least one run")
    places = [place_of_run(place) for place in places]
    addresses = [str(place) for place in places if is_address(place)]
    if addresses and len(places) == 1 and output is None:
        return _report_there(addresses[0])
    if addresses and output is None:
        raise UserError(f"{shown(addresses[0])}: an address; name the page with --output")
    places = [local_copy(place) for place in places]
    runs = {resolved(folder): folder for place in places for folder in _run_folders(place)}
    if len(runs) == 1:
        return write_report(next(iter(runs.values())), output)
    return write_comparison([*runs.values()], output or Path(commonpath(runs)) / "compare.html")


def _report_there(address: str) -> str:
    folder = local_copy(address)
    write_report(folder)
    Mirror.at(address, folder, ("report.html",)).push()
    return f"{shown(address)}/report.html"


def _run_folders(place: Path) -> list[Path]:
    if place.is_file():
        raise UserError(
            f"{place}: not the folder of a run and not a config file; "
            "name the folder that `ltdd-ray run` wrote"
        )
    inner = [results.parent for results in sorted(place.glob("*/results.json"))]
    return inner if inner and not (place / "results.json").exists() else [place]
