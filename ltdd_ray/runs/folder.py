"""The folder of one run, with its config and a description of how it was made.

``config.yaml`` is the resolved config. ``run.json`` has seed, commit, versions and hardware, and
for each finished stage: the seconds of the session that finished it, the time of its end, and the
peak memory of its largest process in bytes.
"""

import json
import shutil
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import LOCK, locked, read_text, write_atomic, write_json
from ltdd_ray.common.hardware import describe_hardware, describe_versions
from ltdd_ray.common.redact import mask_tree
from ltdd_ray.config import RunConfig, decides, result_fingerprint
from ltdd_ray.config.loading import dump_config
from ltdd_ray.config.nested import leaves
from ltdd_ray.config.yaml_text import parse_yaml
from ltdd_ray.runs.events import EVENTS, PROGRESS
from ltdd_ray.runs.heartbeat import HEARTBEAT
from ltdd_ray.runs.mirror import RECORD
from ltdd_ray.runs.tracking.tracker import IDS


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @classmethod
    def open(cls, config: RunConfig) -> "RunFolder":
        """Create the folder of the run, or reopen it.

        Raises ``UserError`` where it cannot be written, where another process works in it, and
        for the reasons of :meth:`check_owner`.
        """
        folder = cls(config.folder)
        try:
            folder.check_owner(config)
            folder.path.mkdir(parents=True, exist_ok=True)
            with folder.locked():
                write_atomic(folder.path / "config.yaml", dump_config(config))
                write_json(folder.path / "run.json", {**folder.information(), **_describe(config)})
        except OSError as error:
            raise UserError(
                f"{folder.path}: not writable: {error.strerror or error}; "
                "choose another place with --set output=..."
            ) from error
        return folder

    def locked(self) -> AbstractContextManager[None]:
        """Keep every other process out of the folder within the block."""
        return locked(self.path, "the run")

    @property
    def distilled(self) -> Path:
        return self.path / "distilled"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation"

    @property
    def results(self) -> Path:
        return self.path / "results.json"

    def information(self) -> dict[str, Any]:
        """The content of ``run.json``; empty before the first :meth:`open`, and for a cut file.

        What it says of finished stages is for people; whether they are finished, their own files
        tell.
        """
        return _read_object(self.path / "run.json")

    def read_results(self) -> dict[str, Any]:
        """The content of ``results.json``; empty where there is none, or a cut one."""
        return _read_object(self.results)

    def record_stage(self, stage: str, seconds: float, peak_memory: int) -> None:
        """Record in ``run.json`` that ``stage`` is finished now."""
        information = self.information()
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        for key, value in (
            ("timings", round(seconds, 2)),
            ("finished", finished),
            ("peak_memory", peak_memory),
        ):
            earlier = information.get(key)
            information[key] = {**(earlier if isinstance(earlier, dict) else {}), stage: value}
        write_json(self.path / "run.json", information)

    def remove_if_unused(self) -> None:
        """Remove the folder if no stage has written to it.

        A corrected config can then use the same name.
        """
        held = {entry.name for entry in self.path.rglob("*") if entry.is_file()}
        if held <= {LOCK, "config.yaml", "run.json", EVENTS, PROGRESS, HEARTBEAT, IDS, RECORD}:
            shutil.rmtree(self.path)

    def check_owner(self, config: RunConfig) -> None:
        """Raise ``UserError`` where the folder cannot be used for ``config``.

        That is where it holds other files, or a config that leads to other networks. Which
        networks there are may change: those that are missing are then trained.
        """
        file = self.path / "config.yaml"
        if not file.exists():
            others = [entry.name for entry in self.path.glob("[!.]*")] if self.path.exists() else []
            if others:
                raise UserError(
                    f"{self.path}: holds files that are not of a run, such as {min(others)}; "
                    "choose another name with --set name=..."
                )
            return
        try:
            recorded = dict(leaves(parse_yaml(read_text(file), str(file))))
        except (ValueError, AttributeError, UserError, yaml.YAMLError):
            raise UserError(
                f"{file}: not readable as a config; choose another name with --set name=..."
            ) from None
        wanted = dict(leaves(mask_tree(config.model_dump(mode="json"))))
        different = [
            key
            for key in {**wanted, **recorded}
            if recorded.get(key) != wanted.get(key) and decides(key) not in ("results", "nothing")
        ]
        if different:
            shown = ", ".join(
                f"{key} ({recorded.get(key)!r} there, {wanted.get(key)!r} here)"
                for key in different[:3]
            )
            more = f" and {len(different) - 3} more" if len(different) > 3 else ""
            raise UserError(
                f"{self.path}: belongs to a run with another config: {shown}{more}; "
                "choose another name with --set name=..."
            )


def _read_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(file))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _describe(config: RunConfig) -> dict[str, Any]:
    return {
        "config_hash": result_fingerprint(config),
        "seed": config.seed,
        "commit": _commit(),
        "versions": describe_versions(),
        "hardware": describe_hardware(),
    }


def _commit() -> str | None:
    """Commit of the checkout of this package, with `-dirty` if files differ; None without one."""
    package = Path(__file__).resolve().parents[1]
    if not (package.parent / ".git").exists():
        return None  # installed inside some other project's tree
    command = [
        "git",
        "-C",
        str(package),
        "describe",
        "--always",
        "--abbrev=40",
        "--dirty",
        "--exclude=*",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
