"""The trajectory store: expert trajectories as Arrow files.

They are small, mapped instead of loaded, and checksummed. ``docs/store.md`` specifies the format.
The store imports no training code, no models and no Ray.
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
