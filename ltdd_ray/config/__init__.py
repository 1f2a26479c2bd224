"""One typed, frozen tree for a whole run; :mod:`ltdd_ray.config.loading` reads it from YAML.

Every key is described where it is declared. Impossible values and combinations are refused here,
before any work starts.
"""

from ltdd_ray.config.compute import ComputeConfig
from ltdd_ray.config.data import DataConfig
from ltdd_ray.config.distill import Budget, DistillConfig
from ltdd_ray.config.distribution import DistributionConfig, QueueConfig, Snapshots
from ltdd_ray.config.evaluate import EvaluateConfig, EvaluationSet, FullDataConfig
from ltdd_ray.config.experts import ClassifierStage, ExpertsConfig, RepresentationStage
from ltdd_ray.config.identity import decides, fingerprint, result_fingerprint, set_fingerprint
from ltdd_ray.config.matching import ClassifierPhase, Dam, RepresentationPhase, StartEpochs
from ltdd_ray.config.model import ModelConfig
from ltdd_ray.config.search import Asha, Dimension, SearchConfig
from ltdd_ray.config.section import Section
from ltdd_ray.config.tracking import MlflowConfig, TrackingConfig, WandbConfig
from ltdd_ray.config.tree import RunConfig

__all__ = [
    "Asha",
    "Budget",
    "ClassifierPhase",
    "ClassifierStage",
    "ComputeConfig",
    "Dam",
    "DataConfig",
    "Dimension",
    "DistillConfig",
    "DistributionConfig",
    "EvaluateConfig",
    "EvaluationSet",
    "ExpertsConfig",
    "FullDataConfig",
    "MlflowConfig",
    "ModelConfig",
    "QueueConfig",
    "RepresentationPhase",
    "RepresentationStage",
    "RunConfig",
    "SearchConfig",
    "Section",
    "Snapshots",
    "StartEpochs",
    "TrackingConfig",
    "WandbConfig",
    "decides",
    "fingerprint",
    "result_fingerprint",
    "set_fingerprint",
]
