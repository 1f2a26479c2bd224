"""Starting a Ray cluster on this machine, or joining an existing one."""

import logging
import os
import secrets
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ray

from ltdd_ray.cluster.probe import require_cluster
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.redact import mask
from ltdd_ray.config import ComputeConfig

# Ray's own switches. The first hides all GPUs from a process that requests none, so that
# torch.cuda.is_available() tells whether one was requested. Ray Train polls its workers every 2 s
# by default, and each checkpoint waits for a poll. Its print patch, state export and metrics are
# off, since this program has its own (docs/cluster.md).
HIDE_GPUS = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}
RAY_SETTINGS = {
    **HIDE_GPUS,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
LONGEST_TMPDIR = 38  # characters; Ray adds up to 69 of the 107 that a socket's name may have
LEAST_OBJECT_STORE = 100_000_000  # bytes; Ray's own minimum is 78,643,200


@contextmanager
def ray_session(compute: ComputeConfig, shared_bytes: int = 0) -> Iterator[None]:
    """Connect to Ray for the length of the block.

    Joins ``compute.address``, or the cluster that runs this process as a job. Without either, it
    starts a cluster on this machine and stops it at the end; that cluster listens on loopback only
    and has room for ``shared_bytes`` of images. Does nothing if this process is already connected.
    Raises ``UserError`` if no cluster answers.
    """
    if ray.is_initialized():
        yield
        return
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    address = compute.address or os.environ.get("RAY_ADDRESS")
    origin = "compute.address" if compute.address else "RAY_ADDRESS"
    try:
        with _kept_sigterm_handler():
            if address:
                _join_cluster(address, origin)
            else:
                _start_cluster(compute.num_cpus, LEAST_OBJECT_STORE + 2 * shared_bytes)
        yield
    finally:
        ray.shutdown()


@contextmanager
def _kept_sigterm_handler() -> Iterator[None]:
    """Keep the caller's handler of SIGTERM. ``ray.init`` replaces it with one that aborts."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and handler is not None:  # None: it was not set from Python
        signal.signal(signal.SIGTERM, handler)


def inside_job() -> bool:
    """Whether this process is the entry point of a `ray job submit`."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def _join_cluster(address: str, origin: str) -> None:
    require_cluster(address, origin)
    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": HIDE_GPUS},
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except (ConnectionError, ValueError) as error:
        raise UserError(
            f"{origin}: no Ray cluster answers at {mask(address)}: {error}; "
            "start one, or set compute.address to null and unset RAY_ADDRESS"
        ) from error


def _give_token() -> None:
    """Put a token for the new cluster into the environment where the home folder cannot hold it.

    Ray writes the token that protects a new cluster to ``~/.ray/auth_token``.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    try:
        folder = Path.home() / ".ray"
        folder.mkdir(parents=True, exist_ok=True)
        usable = (folder / "auth_token").exists() or os.access(folder, os.W_OK)
    except (OSError, RuntimeError):  # RuntimeError: this user has no home
        usable = False
    if not usable:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _start_cluster(num_cpus: int | None, object_store_memory: int) -> None:
    _give_token()
    try:
        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=False,
            object_store_memory=object_store_memory,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
        )
    except OSError as error:
        folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
        if "AF_UNIX" in str(error):  # Ray's message about the longest name of a socket
            raise UserError(
                f"{folder}: too long a name for the sockets of Ray; set RAY_TMPDIR to a folder "
                f"whose name has at most {LONGEST_TMPDIR} characters, such as /tmp"
            ) from None
        place = f" ({error.filename})" if error.filename else ""
        raise UserError(
            f"{folder}: Ray cannot start there: {error.strerror or error}{place}; set RAY_TMPDIR "
            "to a folder that can be written to"
        ) from error
    except Exception as error:
        # Ray raises a plain Exception where its processes do not answer within 30 s.
        if "timed out during startup" not in str(error):
            raise
        raise UserError(
            "Ray did not start within its 30 s, as it does on a machine that is busy or short of "
            "memory; run the same command again, or start Ray yourself and set compute.address"
        ) from None


def require_capacity(setting: str, count: int, cpus: float, gpus: float) -> None:
    """Raise ``UserError`` if ``count`` processes of this size can never run at the same time.

    Without this check Ray would wait for ever, without a message.
    """
    nodes = alive_nodes()
    fitting = capacity(nodes, cpus, gpus, count)
    if fitting < count:
        total = ray.cluster_resources()
        raise UserError(
            f"compute.{setting}: {count} processes of {cpus:g} CPU and {gpus:g} GPU each do not "
            f"fit the Ray cluster, whose {len(nodes)} node(s) have {total.get('CPU', 0):g} CPU "
            f"and {total.get('GPU', 0):g} GPU, room for {fitting}; "
            + (f"--set compute.{setting}={fitting}" if fitting else "lower what each one asks for")
        )


def alive_nodes() -> list[dict[str, float]]:
    """The resources of each live node of the cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def capacity(nodes: Sequence[dict[str, float]], cpus: float, gpus: float, enough: int) -> int:
    """How many processes of this size fit the nodes, counted up to ``enough``.

    A process cannot be divided between nodes.
    """
    room = 0
    for node in nodes:
        limits = [
            int(node.get(name, 0) / need + 1e-9)
            for name, need in (("CPU", cpus), ("GPU", gpus))
            if need > 0
        ]
        room += min(limits, default=enough)
    return min(room, enough)
