"""What a run says of itself while it goes: a line an event, and how far the present stage is. For ``ltdd-ray status``."""

import json
from datetime import UTC, datetime
from pathlib import Path

from ltdd_ray.files import write_json
from ltdd_ray.progress import Progress

EVENTS, PROGRESS = "events.jsonl", "progress.json"


def record_event(folder: Path, event: str) -> None:
    """Append one line to the journal of the run in ``folder``."""
    with (folder / EVENTS).open("a") as file:
        file.write(json.dumps({"time": _now(), "event": event}) + "\n")


def record_progress(folder: Path, progress: Progress) -> None:
    """Replace what is said of the present stage."""
    write_json(folder / PROGRESS, {"time": _now(), **progress._asdict()})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
