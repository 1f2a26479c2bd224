"""``ltdd-ray status RUN``: the progress of a run, from the files in its folder.

The run may be active, finished or killed.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ltdd_ray.common.address import is_address
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import read_text, refuse_impossible
from ltdd_ray.common.hints import nearest_path
from ltdd_ray.common.terminal import PlainConsole
from ltdd_ray.common.units import duration
from ltdd_ray.runs.events import EVENTS, PROGRESS, STOPPED, STOPPED_JOB
from ltdd_ray.runs.heartbeat import HEARTBEAT
from ltdd_ray.runs.mirror import Mirror

SECONDS_OF_SILENCE = 15.0  # after this long without a beat a run counts as killed
FILES = ("run.json", PROGRESS, HEARTBEAT, EVENTS)
LOSSES = ("incidents", "actors", "preempted")


def read_status(folder: Path) -> dict[str, Any]:
    """The progress of the run in ``folder``.

    ``stage`` is the stage with the last progress: ``done`` of ``total`` ``unit``s at ``rate`` per
    second, ``age`` seconds ago. ``stages`` has the seconds of each finished stage. ``finished`` is
    true where the report, or a search, is complete. ``state`` is one of

    - ``running``: a process works on it, and waits for ``waits_for`` since ``since`` if not null;
    - ``silent``: its process was killed; the last sign of life came at ``beat``;
    - ``finished``; ``stopped``, by Ctrl-C or SIGTERM; ``not finished``, for all other reasons.

    ``losses`` counts the actors lost so far, those of them that were preempted, and the incidents
    that count towards ``compute.max_failures``. Raises ``UserError`` where there is no run.
    """
    refuse_impossible(str(folder))
    if not folder.is_dir():
        what = "a file, not the folder of a run" if folder.exists() else "there is no such folder"
        hint = "" if folder.exists() else nearest_path(folder)
        raise UserError(f"{folder}: {what}; name the folder that `ltdd-ray run` wrote{hint}")
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
    beat = _json(folder / HEARTBEAT) or {}
    try:
        status = _status(folder, information, progress, beat)
        _lines(status)  # raises for values that cannot be shown
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
        raise UserError(
            f"{folder}: run.json, {PROGRESS}, {HEARTBEAT} or {EVENTS} was altered; run the same "
            "command again to rewrite them"
        ) from None
    return status


def _status(
    folder: Path, information: dict[str, Any], progress: dict[str, Any], beat: dict[str, Any]
) -> dict[str, Any]:
    ended, events = information.get("finished", {}), _events(folder / EVENTS)
    stage = progress.get("stage") or next(reversed(ended), None)
    last = "search" if stage == "search" else "report"
    finished = last in ended and ended[last] >= progress.get("time", "")
    losses = [event.get("losses", {}) for event in events]
    return {
        "run": str(folder),
        "state": _state(finished, beat, events),
        "finished": finished,
        "beat": beat.get("time"),
        "waits_for": beat.get("waits_for"),
        "since": beat.get("since"),
        "stage": stage,
        "done": progress.get("done"),
        "total": progress.get("total"),
        "unit": progress.get("unit"),
        "rate": progress.get("rate"),
        "note": progress.get("note"),
        "age": _seconds_since(progress["time"]) if progress else None,
        "stages": information.get("timings", {}),
        "losses": {name: sum(loss.get(name, 0) for loss in losses) for name in LOSSES},
        "last_event": {key: events[-1][key] for key in ("time", "event")} if events else None,
    }


def _state(finished: bool, beat: dict[str, Any], events: list[dict[str, Any]]) -> str:
    if beat and _seconds_since(beat["time"]) <= SECONDS_OF_SILENCE:
        return "running"
    if finished:
        return "finished"
    if beat:
        return "silent"
    stopped = events and events[-1]["event"] in (STOPPED, STOPPED_JOB)
    return "stopped" if stopped else "not finished"


def _seconds_since(time: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()


def _status_there(address: str) -> dict[str, Any]:
    """:func:`read_status` of a run at an address, which has the files of a few seconds ago."""
    with TemporaryDirectory() as folder:
        mirror = Mirror.at(address, Path(folder) / "run", FILES)
        mirror.pull()
        try:
            return {**read_status(mirror.local), "run": mirror.place}
        except UserError as error:
            raise UserError(str(error).replace(str(mirror.local), mirror.place)) from None


def show_status(place: Path | str, as_json: bool) -> None:
    """Print :func:`read_status` of a run's folder or address as text or JSON."""
    status = _status_there(str(place)) if is_address(place) else read_status(Path(place))
    print(json.dumps(status)) if as_json else PlainConsole().print(
        "\n".join(_lines(status)), soft_wrap=True, highlight=False
    )


def _lines(status: dict[str, Any]) -> list[str]:
    lines = [f"{status['run']}: {_headline(status)}"]
    lines += [
        f"  {stage}: finished in {duration(seconds)}" for stage, seconds in status["stages"].items()
    ]
    if status["stage"] and status["total"] and not status["finished"]:
        rate = f" at {status['rate']:.1f} {status['unit']}/s" if status["rate"] else ""
        lines.append(
            f"  {status['stage']}: {status['done']:g} of {status['total']:g} {status['unit']}"
            f"{rate}, last update {duration(status['age'])} ago"
        )
    if any(status["losses"].values()):
        lines.append(f"  losses so far: {_losses(**status['losses'])}")
    if not status["stage"]:
        lines.append("  no stage has begun, as there is no progress.json")
    if status["last_event"]:
        lines.append(
            f"  last event: {status['last_event']['time']} {status['last_event']['event']}"
        )
    return lines


def _headline(status: dict[str, Any]) -> str:
    if status["state"] == "running" and status["waits_for"]:
        seconds = max(0, round(_seconds_since(status["since"])))
        waited = f"{seconds} s" if seconds < 60 else duration(seconds)
        return f"running, waits for {status['waits_for']} since {waited}"
    if status["state"] == "silent":
        return f"no sign of life since {status['beat']}; the same command continues"
    return status["last_event"]["event"] if status["state"] == "stopped" else status["state"]


def _losses(incidents: int, actors: int, preempted: int) -> str:
    lost = f"{actors} actors or workers, in {incidents} incidents that count"
    return f"{lost}, {preempted} of them by preemption" if preempted else lost


def _json(file: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(read_text(file))
        if not isinstance(content, dict):
            raise ValueError("not an object")
        return content
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{file}: not readable ({error}); run the same command again to rewrite it"
        ) from None


def _events(file: Path) -> list[dict[str, Any]]:
    """All events. A killed writer may have left an incomplete line, at the end or before others."""
    lines = read_text(file).splitlines(keepends=True) if file.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    events = []
    for number, line in enumerate(whole, start=1):
        try:
            events.append(json.loads(line))
        except ValueError:
            if number == len(whole):
                raise
    return events
