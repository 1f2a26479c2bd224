"""Decoding the images of a cache on Ray, one shard per task."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from ltdd_ray.cluster.session import ray_session
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.terminal import PlainConsole
from ltdd_ray.config import ComputeConfig
from ltdd_ray.data.sources.imagenet import ImageShard, ShardWriter
from ltdd_ray.runs.progress import StageProgress


def ray_writer(compute: ComputeConfig) -> ShardWriter:
    """A writer of shards on the Ray cluster of ``compute``; Ray starts when the writer is called.

    Inside a :func:`~ltdd_ray.cluster.session.ray_session` the writer uses that session. The cache
    must be a folder that all nodes see. The writer raises the ``UserError`` of the first image that
    cannot be read. Shards written before that stay, so the next call has less to do.
    """
    return partial(_write_on_ray, compute)


def _write_on_ray(compute: ComputeConfig, shards: Sequence[ImageShard]) -> None:
    from ray import data as ray_data  # slow to import, and needed only where images are decoded

    with ray_session(compute):
        context = ray_data.DataContext.get_current()
        context.enable_progress_bars, context.print_on_execution_start = False, False
        written = ray_data.from_items(
            [vars(shard) for shard in shards], override_num_blocks=len(shards)
        ).map(_write_shard)
        total = sum(len(shard.paths) for shard in shards)
        with StageProgress("images", total, "images", PlainConsole(stderr=True)) as progress:
            for row in written.iter_rows():
                if row["error"]:
                    raise UserError(row["error"])
                progress.update(row["file"], row["images"], row["file"])


def _write_shard(row: dict[str, Any]) -> dict[str, Any]:
    """Write one shard. An error is returned, because Ray would wrap a raised one in its own."""
    try:
        ImageShard(**row).write()
    except UserError as error:
        return {"file": row["file"], "images": 0, "error": str(error)}
    return {"file": row["file"], "images": len(row["paths"]), "error": ""}
