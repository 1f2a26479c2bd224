"""Where the numbers of a run are sent, besides its own folder."""

from typing import Literal

from pydantic import Field

from ltdd_ray.config.section import Section


class MlflowConfig(Section):
    """A run on an MLflow server (`pip install ltdd-ray[mlflow]`)."""

    uri: str = Field(
        min_length=1,
        description="Address of the tracking server, such as `http://127.0.0.1:5000`. Give user "
        "and password by MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
    )
    experiment: str = Field(
        default="ltdd_ray", min_length=1, description="Experiment that holds the run."
    )


class WandbConfig(Section):
    """A run on Weights & Biases (`pip install ltdd-ray[wandb]`)."""

    project: str = Field(
        default="ltdd_ray", min_length=1, description="Project that holds the run."
    )
    entity: str | None = Field(
        default=None, description="Team or user that owns the project; your own by default."
    )
    mode: Literal["online", "offline"] = Field(
        default="online",
        description="`offline` writes below the run's folder, for `wandb sync` later.",
    )


class TrackingConfig(Section):
    """Trackers get parameters, the metrics of each update, the images, results and files."""

    tensorboard: bool = Field(
        default=True, description="Whether the distillation writes TensorBoard's event files."
    )
    mlflow: MlflowConfig | None = Field(default=None, description="MLflow; none by default.")
    wandb: WandbConfig | None = Field(
        default=None, description="Weights & Biases; none by default."
    )
