"""The tree as a whole, and what its sections must satisfy together."""

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from ltdd_ray.common.address import cache_folder, inside, is_address
from ltdd_ray.config.compute import ComputeConfig
from ltdd_ray.config.data import DataConfig
from ltdd_ray.config.distill import DistillConfig
from ltdd_ray.config.evaluate import MADE_WITH_EXPERTS, EvaluateConfig
from ltdd_ray.config.experts import ExpertsConfig
from ltdd_ray.config.matching import ClassifierPhase, RepresentationPhase
from ltdd_ray.config.model import ModelConfig
from ltdd_ray.config.search import SearchConfig
from ltdd_ray.config.section import Section, as_path
from ltdd_ray.config.tracking import TrackingConfig

# File systems allow 255 bytes, and temporary names are longer than the name.
LONGEST_NAME = 200

# As in ltdd_ray.nn.augment, which imports torch.
AUGMENTATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")


class RunConfig(Section):
    """A whole run."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$",
        description="Name of the run, and of its folder below `output`; slashes make subfolders.",
    )
    output: str = Field(
        default="runs",
        description="Folder that the folders of runs are written to, or an address such as "
        "`s3://bucket/runs`.",
    )
    method: str = Field(
        default="ltdd",
        description="The method, as in `ltdd-ray compare`. It brings the settings that define it "
        "(`ltdd_ray/methods/`), under those that stand beside it in a file or after `--set`. Any "
        "other name only renames the set in results and report.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        description="Seed of all random draws. Equal configs give equal results; another seed "
        "gives an independent repetition.",
    )
    plugins: tuple[str, ...] = Field(
        default=(),
        description="Python modules to import first, which register sources, networks or methods. "
        "They are installed or lie in the working directory.",
    )
    data: DataConfig = Field(
        description="Where images come from, and how their class distribution is cut."
    )
    model: ModelConfig = Field(
        default=ModelConfig(), description="The network of experts, students and evaluation."
    )
    augmentation: str = Field(
        default="color_crop_cutout_flip_scale_rotate",
        description="DSA operations joined by `_`, one of them drawn per batch; empty for none. "
        "Drop `flip` and `rotate` where they change an image's meaning, as for digits.",
    )
    experts: ExpertsConfig = Field(
        default=ExpertsConfig(),
        description="The experts whose trajectories the student is matched with.",
    )
    distill: DistillConfig = Field(
        description="The synthetic set: its size, its start and its optimisation."
    )
    evaluate: EvaluateConfig = Field(
        default=EvaluateConfig(),
        description="Networks trained from scratch on each set, and measured on real images.",
    )
    search: SearchConfig = Field(
        default=SearchConfig(),
        description="`ltdd-ray search`: which settings of `distill` it varies, how long a trial "
        "is, and how it is scored.",
    )
    tracking: TrackingConfig = Field(
        default=TrackingConfig(),
        description="Trackers that get the numbers and files of the run.",
    )
    compute: ComputeConfig = Field(
        default=ComputeConfig(),
        description="Where a run computes, and with how many processes. Results depend on it at "
        "most by the order of float sums.",
    )

    @field_validator("output")
    @classmethod
    def _home(cls, path: str) -> str:
        return as_path(path) or path

    @property
    def address(self) -> str | None:
        """The address of the run, with the keys that ``output`` has; None for a folder."""
        return inside(self.output, self.name) if is_address(self.output) else None

    @property
    def folder(self) -> Path:
        """The folder that this machine works in. A run with an address has one on every node."""
        if is_address(self.output):
            return cache_folder(self.output, "runs") / self.name
        return Path(self.output) / self.name

    @property
    def store_uri(self) -> str:
        if self.experts.store:
            return self.experts.store
        return inside(self.address, "experts") if self.address else str(self.folder / "experts")

    @property
    def expert_model(self) -> ModelConfig:
        """The network of the experts."""
        norm = self.experts.norm or self.model.norm
        return (
            self.model if norm == self.model.norm else self.model.model_copy(update={"norm": norm})
        )

    @property
    def snapshot_epochs(self) -> range:
        """The epochs of the experts' snapshots that `tgdd` draws from."""
        chosen = self.distill.distribution.snapshots
        last = _last_kept_epoch(self.experts) if chosen.max is None else chosen.max
        return range(chosen.min, last + 1)

    @property
    def evaluation_models(self) -> dict[str, ModelConfig]:
        """Architectures of the evaluation by label, the run's own first."""
        return {model.label: model for model in (self.model, *self.evaluate.models)}

    @property
    def distils(self) -> bool:
        """Whether any set of the evaluation comes from a distillation."""
        return any(name == "initial" or name.startswith("distilled") for name in self.evaluate.sets)

    @property
    def matches(self) -> bool:
        """Whether it comes from trajectory matching."""
        return self.distils and self.distill.engine == "matching"

    @property
    def needs_experts(self) -> bool:
        guided = self.distils and self.distill.engine in ("tgdd", "rldd")
        made = any(name in MADE_WITH_EXPERTS for name in self.evaluate.sets)
        return self.matches or guided or made

    @field_validator("augmentation")
    @classmethod
    def _known_operations(cls, strategy: str) -> str:
        for name in strategy.split("_") if strategy else ():
            if name not in AUGMENTATIONS:
                raise ValueError(f"no operation `{name}`; choose among {'_'.join(AUGMENTATIONS)}")
        return strategy

    @model_validator(mode="after")
    def _consistent(self) -> "RunConfig":
        if ".." in self.name.split("/"):
            raise ValueError(f"name {self.name!r} leads out of the output folder; leave `..` out")
        longest = max(self.name.split("/"), key=len)
        if len(longest) > LONGEST_NAME:
            raise ValueError(
                f"name: {longest[:20]}... has {len(longest)} characters; a folder's name has at "
                f"most {LONGEST_NAME}"
            )
        if self.distill.engine == "matching":
            _check_matching(self)
        if self.distill.engine == "tgdd":
            _check_snapshots(self)
        if self.distill.distribution.layers == "all" and self.model.name != "convnet":
            raise ValueError(
                "distill.distribution.layers all needs the blocks of model.name convnet, not "
                f"{self.model.name}; set it to last"
            )
        _check_expert_norm(self)
        checks = self.distill.checks
        if checks.every and not self.data.validation_fraction:
            raise ValueError(
                f"distill.checks.every {checks.every} needs held-out images, but "
                "data.validation_fraction is 0; hold out a share, for example 0.1"
            )
        if self.distill.keep == "best" and not checks.every:
            raise ValueError("distill.keep best needs distill.checks.every; set it, for example 50")
        if self.evaluate.split == "validation" and not self.data.validation_fraction:
            raise ValueError(
                "evaluate.split is validation but data.validation_fraction is 0; hold out a share, "
                "for example 0.2"
            )
        return self


def _last_kept_epoch(experts: ExpertsConfig) -> int:
    """The last epoch of the representation stage before which no epoch is missing."""
    last = experts.representation.epochs
    return last if experts.keep_epochs is None else min(experts.keep_epochs, last)


def _check_snapshots(config: RunConfig) -> None:
    chosen, kept = config.distill.distribution.snapshots, _last_kept_epoch(config.experts)
    key, last = ("min", chosen.min) if chosen.max is None else ("max", chosen.max)
    if last > kept:
        raise ValueError(
            f"distill.distribution.snapshots.{key} {last} lies beyond the trajectory, whose last "
            f"kept epoch is {kept}; lower it or train experts.representation longer"
        )


def _check_expert_norm(config: RunConfig) -> None:
    engine, norm = config.distill.engine, config.expert_model.norm
    if engine == "rldd" and norm != "batch":
        raise ValueError(
            f"distill.engine rldd recovers batch-norm statistics, but experts have norm {norm}; "
            "set experts.norm to batch"
        )
    if engine in ("matching", "tgdd") and norm != config.model.norm:
        raise ValueError(
            f"distill.engine {engine} needs experts like the model, but experts.norm is {norm} and "
            f"model.norm {config.model.norm}; set experts.norm to null"
        )


def _check_matching(config: RunConfig) -> None:
    distill, experts = config.distill, config.experts
    _segment_fits("representation", distill.representation, _last_kept_epoch(experts))
    _segment_fits("classifier", distill.classifier, experts.classifier.epochs)
    if not distill.lambda_rep and not distill.lambda_cls:
        raise ValueError(
            "distill.lambda_rep and distill.lambda_cls are both 0, so there is nothing to match; "
            "raise one of them"
        )
    mixing = distill.hypergradient == "unrolled" or config.model.norm == "batch"
    if config.compute.parallel == "batch" and mixing:
        raise ValueError(
            "compute.parallel batch needs distill.hypergradient exact or first_order and "
            "model.norm instance or none; set it to trajectory"
        )
    if distill.micro_batch and mixing:
        raise ValueError(
            f"distill.micro_batch {distill.micro_batch} needs hypergradient exact or first_order "
            "and model.norm instance or none; set it to null"
        )


def _segment_fits(
    stage: str, phase: RepresentationPhase | ClassifierPhase, last_epoch: int
) -> None:
    end = phase.start_epochs.max + phase.expert_epochs
    if end > last_epoch:
        raise ValueError(
            f"distill.{stage}: start_epochs.max {phase.start_epochs.max} + expert_epochs "
            f"{phase.expert_epochs} = {end} lies beyond the trajectory, whose last kept epoch is "
            f"{last_epoch}; lower them or train experts.{stage} longer"
        )
