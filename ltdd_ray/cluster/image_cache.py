"""Decoding a cache of images with Ray Data, one file of the cache per task."""

from collections.abc import Sequence
from typing import Any

from ray import data as ray_data
from rich.console import Console

from ltdd_ray.cluster.session import ray_session
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import ComputeConfig
from ltdd_ray.data.sources.imagenet import Shard
from ltdd_ray.runs.progress import StageProgress


def write_shards(shards: Sequence[Shard]) -> None:
    """Write every one of ``shards``; their folder must be one that all nodes see.

    Works on the connected Ray cluster, else on the one RAY_ADDRESS names, else on all cores of this machine. Raises the
    ``UserError`` of an image that cannot be read; files written until then stay, so that the next call has less to do.
    """
    if not shards:
        return
    with ray_session(ComputeConfig()):
        context = ray_data.DataContext.get_current()
        context.enable_progress_bars, context.print_on_execution_start = False, False
        written = ray_data.from_items(
            [vars(shard) for shard in shards], override_num_blocks=len(shards)
        ).map(_write)
        total = sum(len(shard.paths) for shard in shards)
        with StageProgress("images", total, "images", Console(stderr=True)) as progress:
            for row in written.iter_rows():
                if row["error"]:
                    raise UserError(row["error"])
                progress.update(row["file"], row["images"], row["file"])


def _write(row: dict[str, Any]) -> dict[str, Any]:
    """What happened to one shard. An error travels as a value: raised, it would arrive wrapped in Ray's own."""
    try:
        Shard(**row).write()
    except UserError as error:
        return {"file": row["file"], "images": 0, "error": str(error)}
    return {"file": row["file"], "images": len(row["paths"]), "error": ""}
