"""``ltdd-ray data info``: the images of a config, and what its run takes on this machine."""

from dataclasses import dataclass

from rich.console import Console

from ltdd_ray.cluster.image_cache import ray_writer
from ltdd_ray.common.terminal import plain_text
from ltdd_ray.config import RunConfig
from ltdd_ray.data.info import DataSummary, data_table, describe
from ltdd_ray.data.load import load_data
from ltdd_ray.data.proposal import sensible_ipc
from ltdd_ray.methods import name_note


@dataclass(frozen=True, repr=False)
class DataInfo:
    """What was found; printed, it is what the command shows.

    Attributes:
        summary: the classes with the number of images in each part.
        sentences: images per class, notes, and what the run takes if it was estimated.
    """

    summary: DataSummary
    sentences: tuple[str, ...]

    def show(self, console: Console) -> None:
        """The table in the width of ``console``; a sentence stays one line, to be searched for."""
        console.print(data_table(self.summary))
        console.print("\n".join(self.sentences), soft_wrap=True, highlight=False)

    def __repr__(self) -> str:
        return plain_text(data_table(self.summary), *self.sentences)


def data_info(config: RunConfig, timing: bool) -> DataInfo:
    """Read the images of ``config``, and measure what its run takes if ``timing``."""
    splits = load_data(config.data, config.seed, ray_writer(config.compute))
    ipc = sensible_ipc(splits.train.class_counts.tolist())
    sentences = [f"sensible images per class: up to {ipc} (distill.ipc is {config.distill.ipc})"]
    if note := name_note(config):
        sentences.append(f"note: {note}")
    if timing:
        from ltdd_ray.workflows.cost import estimate_cost  # with all engines

        sentences += estimate_cost(config, splits).sentences()
    return DataInfo(describe(splits, config.data), tuple(sentences))
