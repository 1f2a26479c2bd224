"""Load the images that the data section of a config describes, and divide them into parts."""

from dataclasses import dataclass

import numpy as np

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import DataConfig
from ltdd_ray.data.count_estimate import CountEstimate, estimate_counts
from ltdd_ray.data.dataset import LabelledImages, LongTailedDataset
from ltdd_ray.data.longtail import long_tail_indices
from ltdd_ray.data.sources import load_source
from ltdd_ray.data.sources.checks import strange_classes, without_test_images
from ltdd_ray.data.sources.folders import load_unlabelled
from ltdd_ray.data.sources.imagenet import ShardWriter, write_in_process
from ltdd_ray.data.split import hold_out, labelled_subset

# Not the run's seed, so that runs with different seeds are evaluated on the same test images.
TEST_SPLIT_SEED = 0


@dataclass(frozen=True)
class DataSplits:
    """Disjoint parts with equal class names and image shape.

    ``validation`` is cut from the training images. ``estimate`` counts all training images,
    including those without a known label, which are in no part. ``notes`` are sentences about what
    was converted, passed over or found twice.
    """

    train: LongTailedDataset
    validation: LongTailedDataset | None
    test: LabelledImages
    estimate: CountEstimate | None = None
    notes: tuple[str, ...] = ()


def load_data(
    config: DataConfig, seed: int, write_shards: ShardWriter = write_in_process
) -> DataSplits:
    """Read the source and divide it.

    The steps: hold out a test set if the source has none, apply the imbalance profile, hold out
    validation images, drop labels.

    Args:
        seed: the run's; it decides the validation split and which labels are known.
        write_shards: writes shards of decoded images that the cache lacks (source ``imagenet_lt``).

    Raises ``UserError`` for missing, broken or inconsistent data, and for a class with a single
    image if some of it are to be held out.
    """
    train, test = load_source(config, write_shards)
    notes = [*train.notes, *(test.notes if test is not None else ())]
    if train.num_classes < 2:
        raise UserError(
            f"source {config.source} has one class, {train.class_names[0]!r}; "
            "add images of at least one other class"
        )
    if test is None:
        if config.test_fraction is None:
            raise UserError(
                f"source {config.source} at {config.path} has no test images; set data.test_path, "
                "or data.test_fraction (for example 0.2) to hold out a share of each class"
            )
        train, test = hold_out(train, config.test_fraction, TEST_SPLIT_SEED, "test split")
    test = _with_classes_of(train, test)
    empty = np.flatnonzero(test.class_counts == 0)
    notes += without_test_images([test.class_names[k] for k in empty], test.num_classes)
    if config.imbalance_factor is not None:
        profile = config.imbalance_factor, config.selection, config.largest_class
        train = train.subset(long_tail_indices(train.labels, train.class_names, *profile))
    validation = None
    if config.validation_fraction:
        train, validation = hold_out(train, config.validation_fraction, seed, "validation split")
    unlabelled = true = None
    if config.unlabelled is not None:
        unlabelled = load_unlabelled(
            config.unlabelled, config.image_size, train.image_shape, config.background
        )
    if config.labelled_fraction is not None:
        known = labelled_subset(train, config.labelled_fraction, seed)
        unlabelled, true = train.images_at(np.flatnonzero(~known)), train.class_counts
        train = train.subset(np.flatnonzero(known))
    estimate = None
    if config.class_counts == "estimate":
        assert unlabelled is not None  # the config requires it
        estimate = estimate_counts(train, unlabelled, seed, true)
    notes += _found_twice(train, test)
    return DataSplits(train, validation, test, estimate, tuple(notes))


def _found_twice(train: LabelledImages, test: LabelledImages) -> list[str]:
    """Notes about images that are equal pixel for pixel, in the training part and in both."""
    classes: dict[bytes, set[int]] = {}
    digests = train.digests()
    for digest, label in zip(digests, train.labels.tolist()):
        classes.setdefault(digest, set()).add(label)
    notes = []
    copies = len(train) - len(classes)
    if copies:
        confused = sum(len(labels) > 1 for labels in classes.values())
        other = f", and {confused:,} image(s) stand in several classes" if confused else ""
        notes.append(
            f"{copies:,} of {len(train):,} training images are pixel for pixel copies of another "
            f"one{other}; every copy counts as an image, so remove those that are too many"
        )
    twice = sum(digest in classes for digest in test.digests())
    if twice:
        notes.append(
            f"{twice:,} of {len(test):,} test images are pixel for pixel training images too, "
            "which raises the accuracy; remove them from one part"
        )
    return notes


def _with_classes_of(train: LongTailedDataset, test: LabelledImages) -> LabelledImages:
    """``test`` under the class names of ``train``, matched by name."""
    if train.image_shape != test.image_shape:
        raise UserError(
            f"training images have shape {train.image_shape} (channels, height, width) but test "
            f"images {test.image_shape}; set data.image_size if the sizes differ, and convert the "
            "images if one part is grey and the other in colour"
        )
    if train.class_names != test.class_names:
        names = set(train.class_names), set(test.class_names)
        counts = len(train.class_names), len(test.class_names)
        if names[1] - names[0] or counts != (len(names[0]), len(names[1])):
            raise strange_classes(sorted(names[1] - names[0]), sorted(names[0]))
        numbers = np.array([train.class_names.index(name) for name in test.class_names])
        test = LabelledImages(test.images, numbers[test.labels], train.class_names)
    return test
