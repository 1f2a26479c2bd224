"""The soak's checks: the undisturbed run's distilled set and trajectories, each committed once."""

from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

from ltdd_ray.config import RunConfig
from ltdd_ray.store import TrajectoryStore


class Commits(Thread):
    """Watches a store's folder for trajectories that are begun or written again after a commit."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._folder, self._ended = folder, Event()
        self._manifests: dict[str, int] = {}
        self._seen: set[str] = set()
        self.repeated: set[str] = set()
        self.start()

    def run(self) -> None:
        while not self._ended.wait(0.02):
            names = {path.name for path in self._folder.glob("*")}
            for name in names - self._seen:
                trajectory = ".".join(name.split(".")[:2])  # expert-0001.representation.*
                if name.endswith(".tmp") and f"{trajectory}.json" in self._seen:
                    self.repeated.add(trajectory)
            for path in self._folder.glob("*.json"):
                with suppress(FileNotFoundError):
                    written = path.stat().st_mtime_ns
                    if self._manifests.setdefault(path.name, written) != written:
                        self.repeated.add(path.stem)
            self._seen |= names

    def stop(self) -> None:
        self._ended.set()
        self.join()


def differences(found: RunConfig, expected: RunConfig) -> list[str]:
    """The differences between two finished runs, one line each."""
    ours, theirs = (
        (c.folder / "distilled" / "distilled.safetensors").read_bytes() for c in (found, expected)
    )
    said = ["another distilled set"] if ours != theirs else []
    store, reference = (
        TrajectoryStore.open(found.store_uri),
        TrajectoryStore.open(expected.store_uri),
    )
    said += [str(problem) for problem in store.verify()]
    for expert in range(expected.experts.count):
        for stage in ("representation", "classifier"):
            if store.epochs(expert, stage) != reference.epochs(expert, stage):
                said.append(f"expert {expert}: {stage} lost epochs")
                continue
            for epoch in reference.epochs(expert, stage):
                pairs = zip(store.read(expert, stage, epoch), reference.read(expert, stage, epoch))
                if not all(
                    (a is None and b is None) or (a is not None and b is not None and a.equal(b))
                    for a, b in pairs
                ):
                    said.append(f"expert {expert}: {stage} epoch {epoch} differs")
    return said
