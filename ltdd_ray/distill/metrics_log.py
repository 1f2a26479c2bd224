"""The log of a distillation: a line of JSON per update for the report, and TensorBoard events."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ltdd_ray.common.files import append_text, read_text
from ltdd_ray.config import RunConfig
from ltdd_ray.data.normalisation import Normalisation


@dataclass(frozen=True)
class UpdateReport:
    """``update`` of ``updates`` is done.

    ``metrics`` are means over segments, equal on all ranks.
    """

    update: int
    updates: int
    metrics: dict[str, float]


class MetricsLog:
    """Writes the log of one process.

    A resumed run first drops every line after ``done`` updates, so no update appears twice.
    """

    def __init__(
        self,
        history: Path,
        tensorboard: Path | None,
        normalisation: Normalisation,
        done: int,
        image_every: int,
    ) -> None:
        history.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in _lines(history) if _update_of(line) <= done]
        history.write_text("".join(line + "\n" for line in kept))
        self._history = append_text(history)
        self._normalisation, self._image_every = normalisation, image_every
        self._events = None
        if tensorboard is not None:
            # The import takes seconds, and only the one process that writes the log needs it.
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(tensorboard), purge_step=done + 1)

    def write(self, report: UpdateReport, images: Tensor, num_classes: int) -> None:
        """Log one update. ``images`` (M, K, H, W) are drawn a row per class, now and then."""
        self._history.write(json.dumps({"update": report.update, **report.metrics}) + "\n")
        self._history.flush()
        if self._events is None:
            return
        for name, value in report.metrics.items():
            self._events.add_scalar(name, value, report.update)
        if report.update % self._image_every == 0 or report.update == report.updates:
            from torchvision.utils import make_grid

            pixels = self._normalisation.invert(images.detach().cpu()).clamp(0, 1)
            grid = make_grid(pixels, nrow=len(pixels) // num_classes)
            self._events.add_image("images", grid, report.update)

    def close(self) -> None:
        self._history.close()
        if self._events is not None:
            self._events.close()


def open_log(config: RunConfig, normalisation: Normalisation, done: int) -> MetricsLog:
    """The log in the folder of a run of which ``done`` updates are finished."""
    return MetricsLog(
        config.folder / "distilled" / "history.jsonl",
        config.folder / "tensorboard" if config.tracking.tensorboard else None,
        normalisation,
        done,
        image_every=config.distill.checkpoint_every,
    )


def _update_of(line: str) -> float:
    """The update of a line; infinity, so that it is dropped, for a line that is no record."""
    try:
        return float(json.loads(line)["update"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return math.inf


def _lines(path: Path) -> list[str]:
    """Whole lines only: a killed writer may have left part of one."""
    if not path.exists():
        return []
    lines = read_text(path, errors="replace").splitlines(keepends=True)
    return [line.rstrip("\n") for line in lines if line.endswith("\n")]
