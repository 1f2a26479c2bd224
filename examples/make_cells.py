"""Write an npz in MedMNIST's layout whose classes are as unequal as in a clinic.

python examples/make_cells.py runs/cells.npz
ltdd-ray run examples/cells.yaml

The pictures are drawn, so nothing is downloaded: grey cells, 28 x 28 pixels, of six kinds. Two
thirds are of the most frequent kind and about one in eighty of the rarest, in the test part too.
Labels have the shape (N, 1), and the arrays are named as in every file of MedMNIST.
"""

import argparse
from pathlib import Path

import numpy as np

SIDE = 28
# Pictures of each kind. MedMNIST's files have unequal test parts, too.
KINDS = {"round": 800, "oval": 200, "ring": 100, "twin": 50, "crescent": 25, "grain": 15}
TEST_SHARE, TEST_FEWEST = 0.4, 10
VALIDATION_SHARE = 0.1


def draw(kind: str, random: np.random.Generator) -> np.ndarray:
    """One picture, uint8 (SIDE, SIDE): a cell of random place, size, angle and brightness."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2 - random.uniform(-3, 3, (2, 1, 1))
    angle, radius = random.uniform(0, 2 * np.pi), random.uniform(6, 9)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = -x * np.sin(angle) + y * np.cos(angle)
    distance = np.hypot(along, across)
    disc = distance < radius
    shapes = {
        "round": disc,
        "oval": np.hypot(along, 1.8 * across) < 1.2 * radius,
        "ring": disc & (distance > 0.55 * radius),
        "twin": np.hypot(np.abs(along) - 0.6 * radius, across) < 0.5 * radius,
        "crescent": disc & (np.hypot(along - 0.5 * radius, across) > 0.8 * radius),
        "grain": disc & (random.random((SIDE, SIDE)) < 0.5),
    }
    brightness = 70 + random.uniform(50, 110) * shapes[kind]
    return np.clip(brightness + random.normal(0, 18, (SIDE, SIDE)), 0, 255).astype(np.uint8)


def part(counts: list[int], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, SIDE, SIDE) and labels uint8 (N, 1), in random order."""
    labels = random.permutation(np.repeat(np.arange(len(counts)), counts))
    images = np.stack([draw(list(KINDS)[label], random) for label in labels])
    return images, labels.astype(np.uint8)[:, None]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="the npz to write")
    file = parser.parse_args().file
    random = np.random.default_rng(0)
    counts = {
        "train": list(KINDS.values()),
        "val": [max(1, round(VALIDATION_SHARE * n)) for n in KINDS.values()],
        "test": [max(TEST_FEWEST, round(TEST_SHARE * n)) for n in KINDS.values()],
    }
    arrays = {}
    for name, of_kind in counts.items():
        arrays[f"{name}_images"], arrays[f"{name}_labels"] = part(of_kind, random)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, **arrays)
    print(f"{file}: " + "; ".join(f"{name} {of_kind}" for name, of_kind in counts.items()))
