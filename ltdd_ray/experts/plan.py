"""The trajectories that a run needs, the identity of each, and which of them are missing."""

from dataclasses import dataclass

from ltdd_ray.common.seeding import derive_seed
from ltdd_ray.config import RunConfig
from ltdd_ray.config.identity import store_fingerprint, trajectory_fingerprints
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.networks import build_network
from ltdd_ray.store import Expectation, Stage, TrajectoryStore


@dataclass(frozen=True)
class TrajectoryTask:
    """One trajectory to train; ``identity`` hashes exactly what decides its outcome."""

    expert: int
    stage: Stage
    identity: str


def expert_network(config: RunConfig, train: LongTailedDataset, expert: int) -> FlatModel:
    """The initial network of expert number ``expert``."""
    seed = derive_seed(config.seed, "expert-network", expert)
    return FlatModel(build_network(config.expert_model, train.image_shape, train.num_classes, seed))


def trajectory_tasks(
    config: RunConfig, train: LongTailedDataset, expert: int
) -> tuple[TrajectoryTask, TrajectoryTask]:
    """The representation and the classifier trajectory of one expert."""
    identities = trajectory_fingerprints(config, train.fingerprint, expert)
    return (
        TrajectoryTask(expert, "representation", identities[0]),
        TrajectoryTask(expert, "classifier", identities[1]),
    )


def plan_trajectories(config: RunConfig, train: LongTailedDataset) -> list[TrajectoryTask]:
    """All trajectories of the run, expert by expert."""
    return [
        task
        for expert in range(config.experts.count)
        for task in trajectory_tasks(config, train, expert)
    ]


def expectation(config: RunConfig, train: LongTailedDataset) -> Expectation:
    """The layout, dataset and config that a store must have to serve this run."""
    layout = expert_network(config, train, 0).layout
    return Expectation(
        layout=layout,
        dataset_fingerprint=train.fingerprint,
        config_fingerprint=store_fingerprint(config),
    )


def missing_experts(config: RunConfig, train: LongTailedDataset) -> list[int]:
    """The experts that lack at least one stage.

    Raises ``UserError`` if the store was made for another architecture, dataset or config.
    """
    store = TrajectoryStore.open(config.store_uri, expect=expectation(config, train), create=True)
    return sorted({task.expert for task in store.missing(plan_trajectories(config, train))})
