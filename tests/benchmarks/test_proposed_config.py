"""The config that ``ltdd-ray init`` writes for photos runs to its end, with fewer epochs."""

from pathlib import Path

import numpy as np
import without_ray
from PIL import Image

from ltdd_ray.config.loading import load_config
from ltdd_ray.data.proposal import write_proposal
from ltdd_ray.data.scan import scan_folder
from ltdd_ray.distill.artifact import DistilledSet

SHORT = (
    "experts.count=2",
    "experts.representation.epochs=2",
    "distill.distribution.updates=2",
    "evaluate.networks=1",
    "evaluate.epochs=2",
)


def test_photos_of_28_pixels(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for name, count in (("cat", 20), ("dog", 10), ("owl", 5)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(count):
            pixels = draw.integers(0, 256, (28, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    file = tmp_path / "photos.yaml"
    write_proposal(scan_folder(tmp_path / "photos"), file, cores=2, gpus=0)

    config = load_config(file, [*SHORT, f"output={tmp_path / 'runs'}"])
    accuracy = without_ray.run(config, without_ray.Timer(float("inf")))

    assert 0 <= accuracy <= 1
    distilled = DistilledSet.load(config.folder / "distilled")
    assert distilled.images.shape[2:] == (28, 28) and distilled.pictures_per_side == 2
    assert len(distilled) == 4 * len(distilled.images)
