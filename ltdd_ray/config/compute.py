"""Where and how wide."""

from typing import Literal

from pydantic import Field, model_validator

from ltdd_ray.config.section import Section


class ComputeConfig(Section):
    """Where and how wide. Nothing here may change a result beyond float reassociation."""

    address: str | None = Field(
        default=None, description="Ray cluster to join; null starts one on this machine."
    )
    num_cpus: int | None = Field(
        default=None, ge=1, description="CPUs of a cluster started here; null for all."
    )
    num_actors: int = Field(
        default=2, ge=1, description="Experts or evaluation networks trained at once."
    )
    cpus_per_actor: float = Field(default=1, ge=0)
    gpus_per_actor: float | Literal["auto"] = Field(
        default=0.0,
        description="A fraction packs several on one GPU. `auto` measures the memory that one takes and fills all GPUs of the "
        "cluster, whatever num_actors says; without a GPU it is 0.",
    )
    num_workers: int = Field(default=2, ge=1, description="DDP workers of the distillation job.")
    min_workers: int | None = Field(
        default=None,
        ge=1,
        description="Fewest workers to distil with while the cluster has no room for all; null waits for all.",
    )
    parallel: Literal["trajectory", "batch"] = Field(
        default="trajectory",
        description="What workers share: an update's segments, or every inner batch.",
    )
    cpus_per_worker: float = Field(default=1, ge=0)
    gpus_per_worker: float = Field(default=0, ge=0)
    threads: int = Field(default=1, ge=1, description="torch threads of each actor and worker.")
    cache_gb: float = Field(
        default=4,
        ge=0,
        description="Local disk of each distillation worker for rows of a store on an object store, in 10^9 bytes.",
    )
    methods_at_once: int = Field(
        default=1,
        ge=1,
        description="Methods that `ltdd-ray compare` runs beside each other, each with actors and workers of its own.",
    )
    max_failures: int = Field(
        default=3, ge=0, description="Lost actors or workers survived by one stage."
    )

    @model_validator(mode="after")
    def _sensible(self) -> "ComputeConfig":
        if self.gpus_per_actor != "auto" and self.gpus_per_actor < 0:
            raise ValueError(
                f"gpus_per_actor {self.gpus_per_actor:g} is below 0; give a share of a GPU, 0 or auto"
            )
        if self.min_workers and self.min_workers > self.num_workers:
            raise ValueError(
                f"min_workers {self.min_workers} is above num_workers {self.num_workers}; lower it"
            )
        return self
