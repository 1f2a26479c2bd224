"""A config for a folder of images, fitted to the images and to the machine.

From 28 pixels on, images are matched under experts with batch norm. With few classes they hold
four pictures, with the values of `configs/cifar10_lt/cpu_batch_norm.yaml`. With many classes they
hold one, with values near those of `configs/tiny_imagenet_lt/cpu_batch_norm.yaml`. Smaller images
keep one picture and match trajectories, with the CPU values of `configs/cifar10_lt/cpu.yaml`; GPU
values lie between them and the paper's. Image size, network depth, images per class and expert
epochs follow from the images.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, inf, log2, log10
from pathlib import Path

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import resolved, write_atomic
from ltdd_ray.common.hardware import describe_hardware
from ltdd_ray.common.shell import command
from ltdd_ray.data.names import printable
from ltdd_ray.data.scan import Scan, scan_folder
from ltdd_ray.data.sources.decode import describe_resized
from ltdd_ray.data.split import held_out_of

TEST_FRACTION = 0.2
LARGER_FRACTIONS = (0.3, 0.4, 0.5)
FEWEST_TEST_IMAGES = 5  # with fewer, one image is over 20 points of its class's accuracy
IPC = (1, 2, 5, 10, 20, 50)
SHARE_OF_IMAGES = 0.2
SIDES = (8, 16, 24, 28, 32, 48, 64)
SMALLEST_TGDD = 28  # pixels; on digits of 8 x 8 pixels matching trajectories is better (LOG.md)
MANY_CLASSES = 50  # with 50, one picture in an image is better than four; not with 10 (LOG.md)
IMAGES_PER_EXPERT = 250_000
EXPERT_EPOCHS = (10, 60)
# lr_image 1000 suits 307,200 learned values (CIFAR at IPC 10), 10 suits 3,200 (the demo).
VALUES_PER_IMAGE_RATE = 300


def sensible_ipc(class_counts: Sequence[int]) -> int:
    """The largest usual number of images per class that still gives a small set.

    At most a fifth of the mean class size, and at most the size of the smallest class, so that each
    synthetic image starts from a different real one.
    """
    limit = min(min(class_counts), SHARE_OF_IMAGES * sum(class_counts) / len(class_counts))
    return max([ipc for ipc in IPC if ipc <= limit], default=1)


def what_was_read(scan: Scan) -> str:
    """A sentence about the images of both parts, with the place of the test images."""
    images = f"{sum(scan.class_counts.values()):,}"
    if scan.test:
        return f"{images} training images, and {scan.test_images:,} test images of {scan.test}"
    return f"{images} images, {100 * TEST_FRACTION:.0f} % of each class to be held out for testing"


def few_test_images(scan: Scan) -> tuple[str, ...]:
    """Sentences where a class gets few test images; else none.

    The first one names the smallest class. Where :data:`TEST_FRACTION` is held out, the second
    offers the first of the larger shares that gives it :data:`FEWEST_TEST_IMAGES`, or the largest
    one if none does. It is absent where no share gives it more.
    """
    held = (
        scan.test_counts
        if scan.test
        else {name: held_out_of(count, TEST_FRACTION) for name, count in scan.class_counts.items()}
    )
    held = {name: count for name, count in held.items() if count}  # others are not measured
    few = sum(count < FEWEST_TEST_IMAGES for count in held.values())
    if not few:
        return ()
    smallest = min(held, key=lambda name: (held[name], scan.class_counts[name]))
    count, now = scan.class_counts[smallest], held[smallest]
    warning = (
        f"{few} class{'es' if few > 1 else ''} will have fewer than {FEWEST_TEST_IMAGES} test "
        f"images; {smallest} will have {now}, so one of them is {100 / now:.0f} points of its "
        "accuracy"
    )
    if scan.test:
        return (warning,)
    enough = (f for f in LARGER_FRACTIONS if held_out_of(count, f) >= FEWEST_TEST_IMAGES)
    share = next(enough, LARGER_FRACTIONS[-1])
    then = held_out_of(count, share)
    if then == now:
        return (warning,)
    return (
        warning,
        f"test_fraction: {share} would give it {then}, and leave {count - then} of its {count} "
        "images to train on",
    )


def proposed_size(scan: Scan, gpus: int) -> int:
    """The `data.image_size` of the config for a machine with ``gpus`` GPUs."""
    largest = min(scan.short_side, 64 if gpus else 32)
    return max([side for side in SIDES if side <= largest], default=SIDES[0])


def resized_images(scan: Scan, gpus: int) -> list[str]:
    """A sentence about the sizes of the sample that the config will resize, if any."""
    side = proposed_size(scan, gpus)
    return describe_resized("images", scan.sizes - {(side, side)}, side)


@dataclass(frozen=True, repr=False)
class Proposal:
    """A config that was written; printed, it says what was found.

    Attributes:
        file: the config.
        scan: the images that it is for.
        gpus: the GPUs of the machine that it is for.
    """

    file: Path
    scan: Scan
    gpus: int

    def __repr__(self) -> str:
        resized = resized_images(self.scan, self.gpus)
        notes = (*self.scan.notes, *resized, *few_test_images(self.scan))
        return "\n".join(
            [
                f"read: {what_was_read(self.scan)}",
                *(f"note: {note}" for note in notes),
                f"wrote {self.file}",
            ]
        )


def propose(folder: Path, output: Path | None) -> Proposal:
    """Write a config for the images in ``folder`` and this machine, by default ``FOLDER.yaml``.

    Raises ``UserError`` as :func:`~ltdd_ray.data.scan.scan_folder` and :func:`write_proposal` do.
    """
    file = output or Path(f"{resolved(folder).name}.yaml")
    hardware, scan = describe_hardware(), scan_folder(folder)
    gpus = len(hardware["gpus"])
    write_proposal(scan, file, hardware["cores"], gpus)
    return Proposal(file, scan, gpus)


def write_proposal(scan: Scan, output: Path, cores: int, gpus: int) -> None:
    """Write a commented config for a machine with ``cores`` CPU cores and ``gpus`` GPUs.

    Raises ``UserError`` if ``output`` exists or cannot be written.
    """
    if output.exists():
        raise UserError(
            f"{output}: exists already and is not overwritten; "
            "remove it, or choose another file with --output"
        )
    environment = Environment(
        loader=PackageLoader("ltdd_ray.data", "."), undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["yaml"] = _quoted
    counts = sorted(scan.class_counts.items(), key=lambda item: -item[1])
    train = [n if scan.test else round((1 - TEST_FRACTION) * n) for _, n in counts]
    side = proposed_size(scan, gpus)
    ipc = min(sensible_ipc(train), 50 if gpus else 10)
    values = ipc * len(train) * side**2 * (3 if scan.colour else 1)
    epochs = min(max(IMAGES_PER_EXPERT // sum(train), EXPERT_EPOCHS[0]), EXPERT_EPOCHS[1])
    tgdd = side >= SMALLEST_TGDD
    mosaics = tgdd and len(counts) < MANY_CLASSES
    text = environment.get_template("proposal.yaml").render(
        scan=scan,
        path=_as_written(scan.root),
        info=printable(command("data", "info", output)),
        run=printable(command("run", output)),
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", resolved(scan.root).name).strip("._-") or "images",
        counts=counts,
        test_fraction=TEST_FRACTION,
        warnings=few_test_images(scan),
        side=side,
        tgdd=tgdd,
        mosaics=mosaics,
        updates=(1000 if gpus else 400) if mosaics else (150 if gpus else 60),
        depth=max(2, floor(log2(side)) - 2),
        ipc=ipc,
        epochs=epochs,
        batch_size=64 if sum(train) > 2000 else 32,
        lr_image=_one_digit(values / VALUES_PER_IMAGE_RATE),
        cores=cores,
        gpus=gpus,
    )
    try:
        write_atomic(output, text)
    except OSError as error:
        raise UserError(
            f"{output}: not writable: {error.strerror or error}; choose another file with --output"
        ) from error


def _quoted(text: str) -> str:
    """``text`` as a YAML value, whatever it holds. JSON would cut an emoji into two characters."""
    return yaml.safe_dump(text, default_style='"', width=inf).strip()


def _as_written(root: Path) -> str:
    """``root`` as the config's path; a leading ``~`` of its own name is not the home folder."""
    return f"./{root}" if str(root).startswith("~") else str(root)


def _one_digit(value: float) -> int:
    """``value`` rounded to one significant digit; at least 1."""
    return max(1, int(round(value, -floor(log10(max(value, 1))))))
