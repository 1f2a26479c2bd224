"""The error of class counts estimated from a labelled share of the images.

    python benchmarks/class_counts.py [FOLDER]

Runs on digits, and on CIFAR-10-LT if FOLDER holds CIFAR-10 as Hugging Face parquet with its rows in
the order of the profile. Prints the share of images counted in a wrong class, in %: mean and range
over five draws of the labelled images.
"""

import sys

import numpy as np

from ltdd_ray.config import DataConfig
from ltdd_ray.data.count_estimate import ESTIMATES, estimate_counts
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.load import load_data
from ltdd_ray.data.split import labelled_subset

SEEDS = range(5)
SHARES = (0.05, 0.1, 0.2, 0.5)


def main() -> None:
    sources = {"digits, IF 20": DataConfig(source="digits", imbalance_factor=20)}
    if sys.argv[1:]:
        sources["CIFAR-10-LT, IF 100"] = DataConfig(
            source="parquet", path=sys.argv[1], imbalance_factor=100, selection="first"
        )
    print(
        "| images | labelled | " + " | ".join(name.replace("_", " ") for name in ESTIMATES) + " |"
    )
    print("|---|---|" + "---|" * len(ESTIMATES))
    for title, source in sources.items():
        train = load_data(source, 0).train
        for share in SHARES:
            found = [_errors(train, share, seed) for seed in SEEDS]
            errors = [[100 * one[name] for one in found] for name in ESTIMATES]
            cells = (f"{sum(e) / len(e):.1f} ({min(e):.1f} to {max(e):.1f})" for e in errors)
            print(f"| {title} | {share:.0%} | " + " | ".join(cells) + " |", flush=True)


def _errors(train: LongTailedDataset, share: float, seed: int) -> dict[str, float]:
    known = labelled_subset(train, share, seed)
    labelled = train.subset(np.flatnonzero(known))
    return estimate_counts(
        labelled, train.images_at(np.flatnonzero(~known)), seed, train.class_counts
    ).errors()


if __name__ == "__main__":
    main()
