"""The tree as a whole, and what its sections must satisfy together."""

from pathlib import Path

from pydantic import Field, model_validator

from ltdd_ray.config.compute import ComputeConfig
from ltdd_ray.config.data import DataConfig
from ltdd_ray.config.distill import ClassifierPhase, DistillConfig, RepresentationPhase
from ltdd_ray.config.evaluate import EvaluateConfig
from ltdd_ray.config.experts import ExpertsConfig
from ltdd_ray.config.model import ModelConfig
from ltdd_ray.config.search import SearchConfig
from ltdd_ray.config.section import Section


class RunConfig(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")
    output: str = Field(default="runs", description="Parent of the run's folder.")
    method: str = Field(
        default="ltdd", description="What results and report call the distilled set."
    )
    seed: int = Field(default=0, ge=0)
    plugins: tuple[str, ...] = Field(
        default=(),
        description="Python modules to import first, which register sources, networks or methods. "
        "They are installed or lie in the working directory.",
    )
    data: DataConfig
    model: ModelConfig = ModelConfig()
    augmentation: str = Field(
        default="color_crop_cutout_flip_scale_rotate",
        description="DSA operations joined by `_`, one drawn per batch; empty for none.",
    )
    experts: ExpertsConfig = ExpertsConfig()
    distill: DistillConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    search: SearchConfig = SearchConfig()
    compute: ComputeConfig = ComputeConfig()

    @property
    def folder(self) -> Path:
        return Path(self.output) / self.name

    @property
    def store_uri(self) -> str:
        return self.experts.store or str(self.folder / "experts")

    @property
    def evaluation_models(self) -> dict[str, ModelConfig]:
        """Every architecture of the evaluation by its label, the run's own first."""
        return {model.label: model for model in (self.model, *self.evaluate.models)}

    @property
    def distils(self) -> bool:
        """Whether anything that is evaluated comes from a distillation."""
        return any(name == "initial" or name.startswith("distilled") for name in self.evaluate.sets)

    @property
    def matches(self) -> bool:
        """Whether that distillation matches trajectories."""
        return self.distils and self.distill.engine == "matching"

    @property
    def needs_experts(self) -> bool:
        return self.matches or "k_center" in self.evaluate.sets

    @model_validator(mode="after")
    def _consistent(self) -> "RunConfig":
        if ".." in self.name.split("/"):
            raise ValueError(f"name {self.name!r} leads out of the output folder; leave `..` out")
        if self.distill.engine == "matching":
            _check_matching(self)
        if self.evaluate.split == "validation" and not self.data.validation_fraction:
            raise ValueError(
                "evaluate.split is validation but data.validation_fraction is 0; hold out a share, for example 0.2"
            )
        return self


def _check_matching(config: RunConfig) -> None:
    distill, experts = config.distill, config.experts
    kept = (
        experts.representation.epochs
        if experts.keep_epochs is None
        else min(experts.keep_epochs, experts.representation.epochs)
    )
    _segment_fits("representation", distill.representation, kept)
    _segment_fits("classifier", distill.classifier, experts.classifier.epochs)
    if not distill.lambda_rep and not distill.lambda_cls:
        raise ValueError(
            "distill.lambda_rep and distill.lambda_cls are both 0, so there is nothing to match; raise one of them"
        )
    mixing = distill.hypergradient == "unrolled" or config.model.norm == "batch"
    if config.compute.parallel == "batch" and mixing:
        raise ValueError(
            "compute.parallel batch needs distill.hypergradient exact or first_order and model.norm instance or none; "
            "set it to trajectory"
        )
    if distill.micro_batch and mixing:
        raise ValueError(
            f"distill.micro_batch {distill.micro_batch} needs hypergradient exact or first_order and "
            "model.norm instance or none; set it to null"
        )


def _segment_fits(
    stage: str, phase: RepresentationPhase | ClassifierPhase, last_epoch: int
) -> None:
    end = phase.start_epochs.max + phase.expert_epochs
    if end > last_epoch:
        raise ValueError(
            f"distill.{stage}: start_epochs.max {phase.start_epochs.max} + expert_epochs {phase.expert_epochs} = {end} lies beyond "
            f"the trajectory, whose last kept epoch is {last_epoch}; lower them or train experts.{stage} longer"
        )
