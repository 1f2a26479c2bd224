"""An evaluated run, read from the files in its folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from jinja2 import UndefinedError

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import read_text
from ltdd_ray.common.hints import nearest_path
from ltdd_ray.common.shell import command
from ltdd_ray.config.nested import leaves
from ltdd_ray.config.yaml_text import parse_yaml
from ltdd_ray.evaluate.plan import distilled_file, measured_on
from ltdd_ray.methods import unlike_method
from ltdd_ray.methods.published import published_accuracy

REQUIRED = (
    "name",
    "dataset",
    "ipc",
    "method",
    "model",
    "split",
    "class_names",
    "class_counts",
    "set",
    "sets",
)


@dataclass(frozen=True)
class FinishedRun:
    """Content of results.json and of run.json (``information``), and the text of config.yaml.

    All but ``results`` may be empty.
    """

    folder: Path
    results: dict[str, Any]
    information: dict[str, Any]
    config: str

    @classmethod
    def read(cls, folder: Path) -> "FinishedRun":
        """Read the files in ``folder``.

        Raises ``UserError`` where there are no results, or those of another distilled set, naming
        the stage to run first, and for a file that cannot be read.
        """
        results = _read_results(folder)
        file = distilled_file(folder)
        if not measured_on(results, file):
            raise UserError(
                f"{folder / 'results.json'}: was measured on another set than {file}, which was "
                f"changed afterwards; run `{command('evaluate', folder / 'config.yaml')}` first"
            )
        return cls(
            folder,
            results,
            _read_json(folder / "run.json") or {},
            _read_text(folder / "config.yaml"),
        )

    @cached_property
    def settings(self) -> dict[str, Any]:
        """{dotted key: value} as in the file, which may be the config of another version."""
        try:
            return dict(leaves(parse_yaml(self.config, str(self.folder / "config.yaml")) or {}))
        except (yaml.YAMLError, AttributeError, UserError):
            raise UserError(
                f"{self.folder / 'config.yaml'}: not readable as a config; restore or remove it"
            ) from None

    def published(self, name: str) -> float | None:
        """Published accuracy 0..1 for the set ``name`` of ``evaluate.sets``, or None.

        Also None where the settings are not those of the method that ``name`` names.
        """
        settings = self.settings
        dataset = settings.get("data.name") or settings.get("data.source")
        method = settings.get("method") if name == "distilled" else name
        if method is None or unlike_method(settings, method):
            return None
        return published_accuracy(
            dataset, settings.get("data.imbalance_factor"), method, settings.get("distill.ipc")
        )


@contextmanager
def fitting_files(folder: Path) -> Iterator[None]:
    """Turn an error over the content of a run's files into a ``UserError`` that names the remedy.

    Files of another version, or altered ones, may lack any value that a page shows.
    """
    try:
        yield
    except (
        *(LookupError, TypeError, ValueError, AttributeError, ArithmeticError),
        RecursionError,
    ) as error:
        raise _unfit(folder, error) from error
    except UndefinedError as error:  # of a template
        raise _unfit(folder, error) from error


def _unfit(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"{folder}: results.json lacks what is shown ({type(error).__name__}: {error}); "
        "delete the file and run `ltdd-ray evaluate` with the run's config again"
    )


def _read_results(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise UserError(
            f"{folder}: there is no such folder; name the folder that `ltdd-ray run` wrote"
            f"{nearest_path(folder)}"
        )
    results = _read_json(folder / "results.json")
    if results is None:
        config = folder / "config.yaml"
        if not config.exists():
            raise UserError(
                f"{folder}: not the folder of a run, as it holds no config.yaml; "
                "name the folder that `ltdd-ray run` wrote"
            )
        stage = "evaluate" if (folder / "distilled" / "distilled.safetensors").exists() else "run"
        raise UserError(
            f"{folder}: there is no results.json to report; run `{command(stage, config)}` first"
        )
    missing = [key for key in REQUIRED if key not in results]
    if missing:
        raise UserError(
            f"{folder / 'results.json'}: `{missing[0]}` is missing; "
            "delete the file and run `ltdd-ray evaluate` again"
        )
    return results


def _read_json(path: Path) -> dict[str, Any] | None:
    text = _read_text(path)
    try:
        content = json.loads(text) if text else None
        if not isinstance(content, dict | None):
            raise ValueError("not an object")
        return content
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: not readable as JSON ({error}); "
            "delete the file and run the stage that writes it again"
        ) from None


def _read_text(path: Path) -> str:
    """The text of the file; empty where there is no file."""
    try:
        return read_text(path) if path.exists() else ""
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(
            f"{path}: not readable ({error}); delete the file and run the stage that writes it "
            "again"
        ) from None
