"""``ltdd-ray status RUN``: the progress of a run, from the files in its folder.

The run may be active, finished or killed.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import refuse_impossible
from ltdd_ray.common.terminal import PlainConsole
from ltdd_ray.common.units import duration
from ltdd_ray.runs.events import EVENTS, PROGRESS


def read_status(folder: Path) -> dict[str, Any]:
    """The progress of the run in ``folder``.

    ``stage`` is the stage with the last progress: ``done`` of ``total`` ``unit``s at ``rate`` per
    second, ``age`` seconds ago. ``stages`` has the seconds of each finished stage. ``finished`` is
    true where the report, or a search, is complete. Raises ``UserError`` where there is no run.
    """
    refuse_impossible(str(folder))
    if not folder.is_dir():
        what = "a file, not the folder of a run" if folder.exists() else "there is no such folder"
        raise UserError(f"{folder}: {what}; name the folder that `ltdd-ray run` wrote")
    information = _json(folder / "run.json")
    if information is None:
        below = sorted(file.parent.name for file in folder.glob("*/run.json"))
        remedy = (
            f"name one of the runs in it: {', '.join(below)}"
            if below
            else "name the folder that `ltdd-ray run` wrote"
        )
        raise UserError(f"{folder}: not the folder of a run, as it holds no run.json; {remedy}")
    progress = _json(folder / PROGRESS) or {}
    try:
        status = _status(folder, information, progress)
        _lines(status)  # raises for values that cannot be shown
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
        raise UserError(
            f"{folder}: run.json, {PROGRESS} or {EVENTS} was altered; run the same command again "
            "to rewrite them"
        ) from None
    return status


def _status(folder: Path, information: dict[str, Any], progress: dict[str, Any]) -> dict[str, Any]:
    ended = information.get("finished", {})
    stage = progress.get("stage") or next(reversed(ended), None)
    last = "search" if stage == "search" else "report"
    return {
        "run": str(folder),
        "finished": last in ended and ended[last] >= progress.get("time", ""),
        "stage": stage,
        "done": progress.get("done"),
        "total": progress.get("total"),
        "unit": progress.get("unit"),
        "rate": progress.get("rate"),
        "note": progress.get("note"),
        "age": (datetime.now(UTC) - datetime.fromisoformat(progress["time"])).total_seconds()
        if progress
        else None,
        "stages": information.get("timings", {}),
        "last_event": _last_event(folder / EVENTS),
    }


def show_status(folder: str, as_json: bool) -> None:
    """Print :func:`read_status` as text or JSON."""
    status = read_status(Path(folder))
    print(json.dumps(status)) if as_json else PlainConsole().print(
        "\n".join(_lines(status)), soft_wrap=True, highlight=False
    )


def _lines(status: dict[str, Any]) -> list[str]:
    lines = [f"{status['run']}: {'finished' if status['finished'] else 'not finished'}"]
    lines += [
        f"  {stage}: finished in {duration(seconds)}" for stage, seconds in status["stages"].items()
    ]
    if status["stage"] and status["total"] and not status["finished"]:
        rate = f" at {status['rate']:.1f} {status['unit']}/s" if status["rate"] else ""
        lines.append(
            f"  {status['stage']}: {status['done']:g} of {status['total']:g} {status['unit']}"
            f"{rate}, last update {duration(status['age'])} ago"
        )
    if not status["stage"]:
        lines.append("  no stage has begun, as there is no progress.json")
    if status["last_event"]:
        lines.append(
            f"  last event: {status['last_event']['time']} {status['last_event']['event']}"
        )
    return lines


def _json(file: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read_text())
        if not isinstance(content, dict):
            raise ValueError("not an object")
        return content
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{file}: not readable ({error}); run the same command again to rewrite it"
        ) from None


def _last_event(file: Path) -> dict[str, str] | None:
    """The last complete line. A killed writer may have left an incomplete one after it."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    if not whole:
        return None
    event = json.loads(whole[-1])
    return {"time": event["time"], "event": event["event"]}
