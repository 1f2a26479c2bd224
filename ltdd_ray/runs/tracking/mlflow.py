"""A run on an MLflow server."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.redact import mask
from ltdd_ray.config import RunConfig
from ltdd_ray.runs.tracking.tracker import End

PARAMETERS_PER_REQUEST, METRICS_PER_REQUEST = 100, 1000  # the server's limits
LONGEST_VALUE = 500  # characters that every version of the server stores
# MLflow's own are 7 tries and 120 s each. The user's values win.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "15"}
STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class MlflowTracker:
    """See :class:`~ltdd_ray.runs.tracking.tracker.Tracker`."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self.id = client, run_id

    def parameters(self, values: Mapping[str, str]) -> None:
        make = import_module("mlflow.entities").Param
        parameters = [make(key, value[:LONGEST_VALUE]) for key, value in values.items()]
        for part in _parts(parameters, PARAMETERS_PER_REQUEST):
            self._client.log_batch(self.id, params=part)

    def metrics(self, values: Mapping[int, Mapping[str, float]]) -> None:
        make = import_module("mlflow.entities").Metric
        now = int(time.time() * 1000)
        metrics = [
            make(name, value, now, update)
            for update, own in values.items()
            for name, value in own.items()
        ]
        for part in _parts(metrics, METRICS_PER_REQUEST):
            self._client.log_batch(self.id, metrics=part)

    def results(self, values: Mapping[str, float]) -> None:
        self.metrics({0: values})

    def image(self, name: str, file: Path) -> None:
        self._client.log_artifact(self.id, str(file), "images")

    def file(self, file: Path, folder: str) -> None:
        self._client.log_artifact(self.id, str(file), folder or None)

    def end(self, how: End) -> None:
        self._client.set_terminated(self.id, STATUS[how])


def open_mlflow(config: RunConfig, folder: Path, known: str | None) -> MlflowTracker:
    """The run ``known``, or a new one where it is None or was deleted.

    Raises ``UserError`` where the package is missing or the server cannot be used.
    """
    settings = config.tracking.mlflow
    assert settings is not None
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        failure = import_module("mlflow.exceptions").MlflowException
        make_client = import_module("mlflow.tracking").MlflowClient
    except ImportError:
        raise UserError(
            "tracking.mlflow needs MLflow, which is not installed; run `pip install "
            "ltdd-ray[mlflow]`, or --set tracking.mlflow=null"
        ) from None
    try:
        client = make_client(settings.uri)
        found = client.get_experiment_by_name(settings.experiment)
        experiment = (
            client.create_experiment(settings.experiment) if found is None else found.experiment_id
        )
        if known is not None and _is_there(client, known):
            client.update_run(known, status="RUNNING")
            return MlflowTracker(client, known)
        return MlflowTracker(
            client, client.create_run(experiment, run_name=config.name).info.run_id
        )
    except (failure, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"tracking.mlflow.uri = {mask(settings.uri)!r}: the server cannot be used: "
            f"{mask(reason)}; start it, correct the address, or --set tracking.mlflow=null"
        ) from None


def _parts(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _is_there(client: Any, run_id: str) -> bool:
    failure = import_module("mlflow.exceptions").MlflowException
    try:
        return client.get_run(run_id).info.lifecycle_stage == "active"
    except failure as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
