"""What a config's data looks like: counts per class and group, for ``ltdd-ray data info``."""

from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table

from ltdd_ray.config import DataConfig
from ltdd_ray.data.groups import class_groups
from ltdd_ray.data.load import DataSplits

BAR_WIDTH = 24  # the table then fits a terminal of 80 columns


@dataclass(frozen=True)
class ClassRow:
    """Images of one class in each part."""

    label: int
    name: str
    group: str
    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class DataSummary:
    """Rows in label order; ``image_shape`` is (channels, height, width); ``imbalance_factor`` is measured, largest / smallest."""

    source: str
    image_shape: tuple[int, int, int]
    imbalance_factor: float
    groups: dict[str, tuple[int, ...]]
    rows: tuple[ClassRow, ...]

    def total(self, part: str) -> int:
        """Images of ``part``: "train", "validation" or "test"."""
        return sum(getattr(row, part) for row in self.rows)


def describe(splits: DataSplits, config: DataConfig) -> DataSummary:
    """Count what :func:`ltdd_ray.data.load.load_data` returned for ``config``."""
    train, validation, test = splits.train, splits.validation, splits.test
    groups = class_groups(train.class_counts)
    group_of = {k: group for group, classes in groups.items() for k in classes}
    rows = tuple(
        ClassRow(
            label=k,
            name=name,
            group=group_of[k],
            train=int(train.class_counts[k]),
            validation=int(validation.class_counts[k]) if validation else 0,
            test=int(test.class_counts[k]),
        )
        for k, name in enumerate(train.class_names)
    )
    measured = float(train.class_counts.max() / train.class_counts.min())
    return DataSummary(config.source, train.image_shape, measured, groups, rows)


def render(summary: DataSummary) -> RenderableType:
    """A table with one bar per class and a summary below, to be printed with rich."""
    channels, height, width = summary.image_shape
    parts = ["train", "validation", "test"] if summary.total("validation") else ["train", "test"]
    table = Table(
        title=f"{summary.source}: {channels} x {height} x {width} images, imbalance factor {summary.imbalance_factor:.4g}"
    )
    table.add_column("class", justify="right")
    table.add_column("name")
    table.add_column("group")
    for part in parts:
        table.add_column(part, justify="right")
    table.add_column("", no_wrap=True)
    largest = max(row.train for row in summary.rows)
    for row in summary.rows:
        counts = [f"{getattr(row, part):,}" for part in parts]
        bar = "█" * max(1, round(BAR_WIDTH * row.train / largest))
        table.add_row(str(row.label), row.name, row.group, *counts, bar)
    totals = ", ".join(f"{summary.total(part):,} {part}" for part in parts)
    groups = ", ".join(
        f"{group} {len(classes)} classes / {sum(summary.rows[k].train for k in classes):,} images"
        for group, classes in summary.groups.items()
    )
    return Group(table, f"images: {totals}", f"groups: {groups}")
