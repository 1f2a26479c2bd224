"""The trajectory store: expert trajectories as Arrow files that are small, mapped instead of loaded, and hard to corrupt.

``docs/store.md`` specifies the format. This room knows nothing of training, models or Ray.
"""

from ltdd_ray.store.garbage import collect_garbage
from ltdd_ray.store.manifest import DType, Manifest, Row, Stage, TrajectoryHeader
from ltdd_ray.store.reader import Expectation, Segment, TrajectoryStore
from ltdd_ray.store.verify import Problem
from ltdd_ray.store.writer import TrajectoryWriter

__all__ = [
    "DType",
    "Expectation",
    "Manifest",
    "Problem",
    "Row",
    "Segment",
    "Stage",
    "TrajectoryHeader",
    "TrajectoryStore",
    "TrajectoryWriter",
    "collect_garbage",
]
