"""Counts per class and group, for ``ltdd-ray data info``."""

from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ltdd_ray.config import DataConfig
from ltdd_ray.data.groups import class_groups
from ltdd_ray.data.load import DataSplits

FEW_TEST_IMAGES = 10  # with fewer, one image changes its class's accuracy by over 10 points
BAR_WIDTH = 24  # the table fits a terminal of 80 columns


@dataclass(frozen=True)
class ClassRow:
    """Number of images of one class in each part.

    If labels are missing, ``estimated`` is the estimated number of all its images, and ``true`` the
    true one if it is known.
    """

    label: int
    name: str
    group: str
    train: int
    validation: int
    test: int
    estimated: float | None
    true: int | None


@dataclass(frozen=True)
class DataSummary:
    """The table's rows in label order, and facts about all images.

    Attributes:
        image_shape: (channels, height, width).
        imbalance_factor: largest over smallest class, as measured.
        notes: what was converted, passed over or found twice.
        errors: :meth:`~ltdd_ray.data.count_estimate.CountEstimate.errors`, or empty.
    """

    source: str
    image_shape: tuple[int, int, int]
    imbalance_factor: float
    groups: dict[str, tuple[int, ...]]
    rows: tuple[ClassRow, ...]
    errors: dict[str, float]
    notes: tuple[str, ...] = ()

    def total(self, part: str) -> int:
        """Images of ``part``: "train", "validation" or "test"."""
        return sum(getattr(row, part) for row in self.rows)


def describe(splits: DataSplits, config: DataConfig) -> DataSummary:
    """Count what :func:`ltdd_ray.data.load.load_data` returned for ``config``."""
    train, validation, test = splits.train, splits.validation, splits.test
    groups, estimate = class_groups(train.class_counts), splits.estimate
    group_of = {k: group for group, classes in groups.items() for k in classes}
    rows = tuple(
        ClassRow(
            label=k,
            name=name,
            group=group_of[k],
            train=int(train.class_counts[k]),
            validation=int(validation.class_counts[k]) if validation else 0,
            test=int(test.class_counts[k]),
            estimated=float(estimate.maximum_likelihood[k]) if estimate else None,
            true=int(estimate.true[k]) if estimate and estimate.true is not None else None,
        )
        for k, name in enumerate(train.class_names)
    )
    measured = float(train.class_counts.max() / train.class_counts.min())
    errors = estimate.errors() if estimate else {}
    return DataSummary(
        config.source, train.image_shape, measured, groups, rows, errors, splits.notes
    )


def steps_of_one_image(summary: DataSummary) -> dict[str, float]:
    """How many points one test image can move each number of the results.

    A class moves by 100 / m_k with m_k test images, a mean over classes by its part of that, the
    accuracy over images by 100 / M with M test images of all classes. Classes without test images
    are not measured. Empty where no class has any.
    """
    measured = [row for row in summary.rows if row.test]
    if not measured:
        return {}
    largest = {row.label: 100 / row.test for row in measured}
    of_groups = {
        f"{group}-shot": max(own) / len(own)
        for group, classes in summary.groups.items()
        if (own := [largest[k] for k in classes if k in largest])
    }
    return {
        "a class": max(largest.values()),
        **of_groups,
        "balanced accuracy": max(largest.values()) / len(measured),
        "accuracy over images": 100 / summary.total("test"),
    }


def data_table(summary: DataSummary) -> RenderableType:
    """A rich table with one bar per class, and a summary below it."""
    channels, height, width = summary.image_shape
    parts = ["train", "validation", "test"] if summary.total("validation") else ["train", "test"]
    table = Table(
        title=Text(
            f"{summary.source}: {channels} x {height} x {width} images, "
            f"imbalance factor {summary.imbalance_factor:.4g}",
            style="table.title",
        )
    )
    table.add_column("class", justify="right")
    table.add_column("name")
    table.add_column("group")
    for part in parts:
        table.add_column(part, justify="right")
    estimated = summary.rows[0].estimated is not None
    if estimated:
        table.add_column("estimated of all", justify="right")
    if summary.errors:
        table.add_column("true", justify="right")
    table.add_column("", no_wrap=True)
    largest = max(row.train for row in summary.rows)
    for row in summary.rows:
        counts = [f"{getattr(row, part):,}" for part in parts]
        if estimated:
            counts.append(f"{row.estimated:,.1f}")
        if summary.errors:
            counts.append(f"{row.true:,}")
        bar = "█" * max(1, round(BAR_WIDTH * row.train / largest))
        table.add_row(str(row.label), Text(row.name), row.group, *counts, bar)
    totals = ", ".join(f"{summary.total(part):,} {part}" for part in parts)
    groups = ", ".join(
        f"{group} {_counted_classes(len(classes))} / "
        f"{sum(summary.rows[k].train for k in classes):,} images"
        for group, classes in summary.groups.items()
    )
    lines = [f"images: {totals}", f"groups: {groups}"]
    coarse = [row for row in summary.rows if row.test < FEW_TEST_IMAGES]
    if coarse:
        fewest = min(coarse, key=lambda row: row.test)
        lines.append(
            f"measured coarsely: {_counted_classes(len(coarse))} with fewer than "
            f"{FEW_TEST_IMAGES} test images, the fewest {fewest.test} of {fewest.name}"
        )
    if steps := steps_of_one_image(summary):
        moved = ", ".join(f"{what} by up to {points:.3g}" for what, points in steps.items())
        lines.append(f"one test image moves, in points: {moved}")
    if summary.errors:
        errors = ", ".join(
            f"{name.replace('_', ' ')} {100 * error:.1f} %"
            for name, error in summary.errors.items()
        )
        lines.append(f"images counted in a wrong class: {errors}")
    lines += [f"note: {note}" for note in summary.notes]
    return Group(table, *map(Text, lines))


def _counted_classes(count: int) -> str:
    return f"{count} class{'' if count == 1 else 'es'}"
