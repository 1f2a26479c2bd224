"""Where a run computes, and with how many processes."""

from typing import Literal

from pydantic import Field, model_validator

from ltdd_ray.config.section import Section


class ComputeConfig(Section):
    """Where a run computes, and with how many processes."""

    address: str | None = Field(
        default=None,
        description="Address of the Ray cluster to join, for example `auto`; null starts one on "
        "this machine.",
    )
    num_cpus: int | None = Field(
        default=None,
        ge=1,
        description="CPUs that a cluster started here may use; null for all. Lower it on a "
        "shared machine.",
    )
    num_actors: int = Field(
        default=2,
        ge=1,
        description="Experts, or evaluation networks, trained at once. Raise it to the number of "
        "cores or GPUs.",
    )
    cpus_per_actor: float = Field(
        default=1,
        ge=0,
        description="CPUs that Ray reserves for each actor. Set it to `threads` if you raise that.",
    )
    gpus_per_actor: float | Literal["auto"] = Field(
        default=0.0,
        description="GPUs that Ray reserves for each actor; a fraction packs several on one GPU. "
        "`auto` measures the memory of one actor and fills all GPUs of the cluster; it overrides "
        "num_actors, and means 0 on a machine without GPUs.",
    )
    num_workers: int = Field(
        default=2,
        ge=1,
        description="DDP workers of the distillation job. More of them make an update faster, "
        "not different.",
    )
    min_workers: int | None = Field(
        default=None,
        ge=1,
        description="Fewest workers to distil with while the cluster lacks room for all; null "
        "waits for all. Set it on a cluster whose nodes come and go.",
    )
    parallel: Literal["trajectory", "batch"] = Field(
        default="trajectory",
        description="What workers share: the segments of an update, or the images of every inner "
        "batch. Choose `batch` if one segment takes too long or too much memory for one GPU.",
    )
    cpus_per_worker: float = Field(
        default=1, ge=0, description="CPUs that Ray reserves for each distillation worker."
    )
    gpus_per_worker: float = Field(
        default=0,
        ge=0,
        description="GPUs that Ray reserves for each distillation worker: 1 to distil on GPUs, "
        "0 for CPUs.",
    )
    threads: int = Field(
        default=1,
        ge=1,
        description="Torch threads of each actor and worker. The last bits of a sum depend on it, "
        "so results are bitwise equal only for equal threads.",
    )
    cache_gb: float = Field(
        default=4,
        ge=0,
        description="Local disk of each distillation worker, in 10^9 bytes, for rows read from a "
        "trajectory store on an object store.",
    )
    methods_at_once: int = Field(
        default=1,
        ge=1,
        description="Methods that `ltdd-ray compare` runs side by side. Each takes its own actors "
        "and workers, so the cluster needs room for all of them.",
    )
    max_failures: int = Field(
        default=3,
        ge=0,
        description="Incidents with lost actors or workers that one stage survives before it "
        "fails. What one node loses within 30 s is one incident; preemptions are not counted.",
    )

    @model_validator(mode="after")
    def _sensible(self) -> "ComputeConfig":
        if self.gpus_per_actor != "auto" and self.gpus_per_actor < 0:
            raise ValueError(
                f"gpus_per_actor {self.gpus_per_actor:g} is below 0; give a share of a GPU, 0 or "
                "auto"
            )
        if self.min_workers and self.min_workers > self.num_workers:
            raise ValueError(
                f"min_workers {self.min_workers} is above num_workers {self.num_workers}; lower it"
            )
        return self
