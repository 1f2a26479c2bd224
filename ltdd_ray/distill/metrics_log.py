"""What distillation leaves for people to look at: TensorBoard, and a line of history per update for the report."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ltdd_ray.data.normalisation import Normalisation

if TYPE_CHECKING:
    from ltdd_ray.distill.distribution.dm import DistributionMatching
    from ltdd_ray.distill.trajectory.loop import UpdateReport
    from ltdd_ray.distill.trajectory.synthetic import SyntheticSet


class Watcher:
    """Writes for one process; on a resume everything after ``done`` updates is dropped first, so nothing is told twice."""

    def __init__(
        self,
        history: Path,
        tensorboard: Path,
        normalisation: Normalisation,
        done: int,
        image_every: int,
    ) -> None:
        # Both take seconds to import, and only the one process that watches needs them.
        from torch.utils.tensorboard import SummaryWriter
        from torchvision.utils import make_grid

        self._make_grid = make_grid
        history.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in _lines(history) if json.loads(line)["update"] <= done]
        history.write_text("".join(line + "\n" for line in kept))
        self._history = history.open("a")
        self._events = SummaryWriter(str(tensorboard), purge_step=done + 1)
        self._normalisation, self._image_every = normalisation, image_every

    def update(
        self, report: "UpdateReport", synthetic: "SyntheticSet | DistributionMatching"
    ) -> None:
        self._history.write(json.dumps({"update": report.update, **report.metrics}) + "\n")
        self._history.flush()
        for name, value in report.metrics.items():
            self._events.add_scalar(name, value, report.update)
        if report.update % self._image_every == 0 or report.update == report.updates:
            pixels = self._normalisation.invert(synthetic.images.detach().cpu()).clamp(0, 1)
            per_class = len(pixels) // int(synthetic.classes.max() + 1)
            self._events.add_image("images", self._make_grid(pixels, nrow=per_class), report.update)

    def close(self) -> None:
        self._history.close()
        self._events.close()


def _lines(path: Path) -> list[str]:
    """Whole lines only: a killed writer may have left a part of one."""
    if not path.exists():
        return []
    return [
        line.rstrip("\n")
        for line in path.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]
