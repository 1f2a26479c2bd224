"""Checks during a distillation: the score of the set on held-out images, and the best set so far.

``checks.jsonl`` in the run's ``distilled`` folder has a line per check: the update, the score
(balanced accuracy 0..1 on held-out training images) and the seconds it took. ``best.safetensors``
beside it is the best set, where ``distill.keep`` is ``best``.
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import append_text, read_text, write_atomic
from ltdd_ray.distill.artifact import DistilledSet

FILE, BEST = "checks.jsonl", "best"
SCORE = "held_out_accuracy"


class Checks:
    """Runs the checks of one process and remembers their best set.

    Resuming is exact. Lines after ``done`` updates are dropped, since those updates are repeated.
    A best set from one of them may stay: repeating the update gives the same set again.
    """

    def __init__(
        self,
        folder: Path,
        score: Callable[[DistilledSet], float],
        *,
        engine: str,
        every: int,
        keep: Literal["last", "best"],
        done: int,
        say: Callable[[str], None],
    ) -> None:
        self._folder, self._score, self._every, self._say = folder, score, every, say
        self._engine, self._keep, self._began, self._spent = engine, keep, time.monotonic(), 0.0
        folder.mkdir(parents=True, exist_ok=True)
        lines = [line for line in read_checks(folder) if line["update"] <= done] if done else []
        write_atomic(folder / FILE, "".join(json.dumps(line) + "\n" for line in lines))
        self._best = _best_so_far(folder, done) if done and keep == "best" else None

    def due(self, update: int, updates: int) -> bool:
        """Whether to check after ``update`` of ``updates``; the first and the last always are."""
        return update % self._every == 0 or update == updates

    def run(self, update: int, found: DistilledSet) -> None:
        """Score ``found``, the set after ``update`` updates."""
        began = time.monotonic()
        score = self._score(found)
        seconds = time.monotonic() - began
        self._spent += seconds
        with append_text(self._folder / FILE) as file:
            line = {"update": update, SCORE: score, "seconds": round(seconds, 2)}
            file.write(json.dumps(line) + "\n")
        if self._keep == "best" and (self._best is None or score > self._best.provenance[SCORE]):
            self._best = replace(found, provenance={**found.provenance, SCORE: score})
            self._best.save(self._folder, BEST)
        self._say(f"update {update}: {100 * score:.1f} % on held-out training images")

    def result(self, last: DistilledSet) -> DistilledSet:
        """The set to keep; says which it is, and what the checks cost."""
        lines = read_checks(self._folder)
        if lines and lines[0]["update"] == 0:  # else somebody deleted the file of a damaged run
            self._compare(lines)
        if self._keep == "best":
            assert self._best is not None  # the first check set it
            self._say(f"kept the set after update {self._best.provenance['update']}")
            return self._best
        return last

    def _compare(self, lines: list[dict[str, Any]]) -> None:
        """Say how the score went, from the first check, that of the initial set, to the last."""
        start, end = lines[0], lines[-1]
        best = max(lines, key=lambda line: line[SCORE])
        share = self._spent / max(time.monotonic() - self._began, 1e-9)
        self._say(
            f"held-out accuracy {100 * start[SCORE]:.1f} % at the start, {100 * best[SCORE]:.1f} % "
            f"at best (update {best['update']}), {100 * end[SCORE]:.1f} % at the end; checks took "
            f"{share:.0%} of the time"
        )
        if end[SCORE] < start[SCORE] and self._keep == "last":
            self._say(f"the last set scores below its own start; {remedy(self._engine)}")


def _best_so_far(folder: Path, done: int) -> DistilledSet:
    """The best set of ``done`` updates.

    Raises ``UserError`` where its file is gone, as the other updates may only give a worse one.
    """
    file = folder / f"{BEST}.safetensors"
    if not file.exists():
        raise UserError(
            f"{file}: missing, the best set of the first {done} updates, which distill.keep best "
            f"asks for; restore the file, or delete {folder} to distil anew"
        )
    return DistilledSet.load(file)


def remedy(engine: str | None) -> str:
    """What to try where ``distill.engine`` made a set worse; the engine of older runs is None."""
    if engine == "matching":
        settings = "a lower distill.lr_label or lr_image, a higher distill.segments_per_update, or "
    else:
        settings = "a lower distill.distribution.lr_image, or " if engine else ""
    return f"try {settings}distill.keep: best together with distill.checks.every"


def read_checks(folder: Path) -> list[dict[str, Any]]:
    """The checks of a run's ``distilled`` folder, in order; empty where there are none.

    Raises ``UserError`` for an altered file.
    """
    file = folder / FILE
    if not file.exists():
        return []
    try:
        lines = read_text(file).splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        for line in found:
            if not isinstance(line["update"], int) or not isfinite(line[SCORE]):
                raise ValueError("a value that is no number")
        return found
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{file}: not readable as checks ({error}); delete the file, and this run says nothing "
            "of them"
        ) from None
