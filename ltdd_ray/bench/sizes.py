"""How large the benchmarks are. The defaults are the sizes that the targets are stated for."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """ConvNet of ``depth`` blocks and ``width`` channels on ``image_size`` pixels square, three channels, ``classes`` classes.

    Attributes:
        images: M = B, the synthetic images, all of them in every inner step.
        steps: T of the single phases. update_steps: T of the representation and the classifier phase of a full update.
        memory_steps: the two T whose peaks are compared.
        largest_class, imbalance_factor: the profile of the experts' training images; test_per_class is in CIFAR-10-LT's
            proportion of test to training images.
        expert_epochs: representation epochs per timing. evaluation_epochs: epochs of each of ``networks`` per timing.
        slow_repeats: at most this many rounds of what takes minutes: a full update and peak memory.
    """

    width: int = 128
    depth: int = 3
    image_size: int = 32
    classes: int = 10
    augmentation: str = "color_crop_cutout_flip_scale_rotate"
    threads: int = 2
    images: int = 100
    steps: int = 10
    update_steps: tuple[int, int] = (80, 60)
    memory_steps: tuple[int, int] = (5, 80)
    largest_class: int = 500
    imbalance_factor: float = 100
    test_per_class: int = 100
    expert_epochs: int = 2
    networks: int = 5
    evaluation_epochs: int = 20
    slow_repeats: int = 2

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return 3, self.image_size, self.image_size


FULL = Sizes()
TINY = Sizes(
    width=4,
    depth=2,
    image_size=8,
    classes=3,
    threads=1,
    images=6,
    steps=2,
    update_steps=(2, 1),
    memory_steps=(1, 2),
    largest_class=12,
    imbalance_factor=4,
    test_per_class=2,
    expert_epochs=1,
    slow_repeats=1,
    networks=2,
    evaluation_epochs=2,
)
