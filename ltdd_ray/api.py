"""What the commands of ``ltdd-ray`` do, from Python."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import read_text, usable_path
from ltdd_ray.common.terminal import PlainConsole, plain_text
from ltdd_ray.config import RunConfig
from ltdd_ray.data.load import DataSplits
from ltdd_ray.data.load import load_data as load_section
from ltdd_ray.data.proposal import Proposal, propose
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.evaluate.results import results_table
from ltdd_ray.methods import known_methods
from ltdd_ray.runs.output import TextOutput
from ltdd_ray.runs.remote import local_copy
from ltdd_ray.workflows.compare.table import Row, as_text

if TYPE_CHECKING:
    from ltdd_ray.workflows.data_info import DataInfo


class Spread(NamedTuple):
    """Mean and sample standard deviation over the evaluation networks, as shares 0..1.

    ``std`` is None for a single network.
    """

    mean: float
    std: float | None


@dataclass(frozen=True)
class Results:
    """The results of a finished run; printed, they are its table.

    Attributes:
        path: the run's folder.
        values: the content of its results.json, accuracies as shares 0..1.
    """

    path: Path
    values: Mapping[str, Any]

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Results":
        """Read the results in a run's folder, or at its address.

        Raises ``UserError`` where there are none.
        """
        folder = local_copy(usable_path(str(path)))
        try:
            values = json.loads(read_text(folder / "results.json"))
            missing = {"accuracy", "groups", "per_class", "class_names", "sets"} - {*values}
            if missing:
                raise ValueError(f"it lacks {min(missing)}")
            return cls(folder, values)
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise UserError(
                f"{folder}: no readable results.json ({error}); run the config to its end first"
            ) from None

    @property
    def accuracy(self) -> Spread:
        """Balanced accuracy on the evaluation images: the mean over classes that have any."""
        return _spread(self.values["accuracy"])

    @property
    def accuracy_over_images(self) -> Spread:
        """The share of all evaluation images predicted correctly; large classes weigh more."""
        return _spread(self.values["accuracy_over_images"])

    @property
    def groups(self) -> dict[str, Spread]:
        """Accuracy of many-, medium- and few-shot classes; an empty group is absent."""
        return {name: _spread(group) for name, group in self.values["groups"].items()}

    @property
    def per_class(self) -> dict[str, Spread]:
        """The accuracy of each class by its name; a class without test images is absent."""
        found = self.values["per_class"]
        named = zip(self.values["class_names"], found["mean"], found["std"], strict=True)
        return {name: Spread(mean, std) for name, mean, std in named if mean is not None}

    @cached_property
    def distilled(self) -> DistilledSet:
        """The distilled set. Raises ``UserError`` where the run's method distils nothing."""
        return DistilledSet.load(self.path)

    @property
    def report(self) -> Path:
        """The HTML page of the run."""
        return self.path / "report.html"

    def __repr__(self) -> str:
        return plain_text(results_table(dict(self.values)))


@dataclass(frozen=True)
class Comparison:
    """The table of a comparison, one row per method; printed, it is up to three narrow tables.

    Attributes:
        path: the HTML page. compare.md, compare.csv and compare.json lie beside it.
        rows: a :class:`~ltdd_ray.workflows.compare.table.Row` for each method in the order given,
            then one for each trajectory store that methods share. Accuracies are shares 0..1, times
            seconds, memory bytes; None where a column does not apply.
    """

    path: Path
    rows: tuple[Row, ...]
    config: RunConfig

    def __repr__(self) -> str:
        return plain_text(as_text(self.config, self.rows))


def init(folder: str | PathLike[str], output: str | PathLike[str] | None = None) -> Proposal:
    """Write a config for a folder with a folder of images per class, as ``ltdd-ray init`` does.

    ``output`` is the file to write, by default ``FOLDER.yaml`` in the working directory. The
    result has it as ``.file``; printed, it says what was found. Raises ``UserError`` for a folder
    that cannot be used and for a file that exists.
    """
    place = Path(usable_path(str(folder)))
    return propose(place, None if output is None else Path(usable_path(str(output))))


def data_info(config: RunConfig, *, timing: bool = True) -> "DataInfo":
    """What ``ltdd-ray data info`` shows: images of each class, time and memory of a run.

    The time is measured on short pieces of the run's work; ``timing=False`` leaves it out. Raises
    ``UserError`` for unusable data.
    """
    from ltdd_ray.workflows.data_info import data_info as inform

    return inform(config, timing)


def load_data(config: RunConfig) -> DataSplits:
    """The images of a config in the parts that its run uses: ``.train`` and ``.test``.

    Each has ``.images`` (uint8 (N, K, H, W)), ``.labels`` (N,) and ``.class_names``. Raises
    ``UserError`` for unusable data.
    """
    return load_section(config.data, config.seed)


def run(config: RunConfig, *, quiet: bool = False) -> Results:
    """Train experts, distil, evaluate and write the report, as ``ltdd-ray run`` does.

    Finished stages are not repeated, so the same call continues a run that was interrupted. Ray is
    started or joined only where work is left, and stopped afterwards if it was started here.
    ``quiet`` prints nothing.

    Raises ``UserError`` before any work for unusable data, an unusable folder and a cluster that is
    too small, and later for a loss that is not finite.
    """
    from ltdd_ray.workflows.pipeline import STAGES
    from ltdd_ray.workflows.pipeline import run as run_stages

    run_stages(config, tuple(STAGES), TextOutput(quiet=quiet))
    return Results.load(config.folder)


def compare(
    config: RunConfig, methods: Sequence[str] | None = None, *, quiet: bool = False
) -> Comparison:
    """Run ``methods``, by default all, under one config, as ``ltdd-ray compare`` does.

    Where its file names a method, load ``config`` with ``load_base_config``, as the settings of
    that method would stay. Experts are shared between the methods that need the same ones.
    Finished runs are not repeated.

    Raises ``UserError`` before any work for an unknown method, naming the nearest.
    """
    from ltdd_ray.workflows.compare.run_methods import compare as run_methods

    run_methods(config, known_methods() if methods is None else methods, PlainConsole(quiet=quiet))
    rows = json.loads(read_text(config.folder / "compare.json"))["rows"]
    return Comparison(config.folder / "compare.html", tuple(Row(**row) for row in rows), config)


def load_distilled(path: str | PathLike[str]) -> DistilledSet:
    """The distilled set in a run's folder, in its ``distilled`` folder or in the file itself.

    Each of them may also be an address such as ``s3://bucket/runs/demo``. A torch ``Dataset`` of
    (picture (K, H, W) in model space, soft label (C,)), with ``.learning_rate``, ``.class_names``
    and ``.denormalize()``. Raises ``UserError`` where there is none.
    """
    return DistilledSet.load(local_copy(path))


def _spread(values: Mapping[str, float]) -> Spread:
    return Spread(values["mean"], values["std"])
