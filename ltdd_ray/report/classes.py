"""The sections on single classes: recall by number of training images, and confusions.

The recall of a class is its accuracy: the share of its images that is predicted as it. C classes.
"""

from typing import Any

import numpy as np
from PIL import Image

from ltdd_ray.data.groups import class_groups, head_to_tail
from ltdd_ray.report.images import as_data_uri
from ltdd_ray.report.scatter import recall_chart

MATRIX_CLASSES = 15  # with more, the matrix is a picture
PAIRS = 8
INK = (37, 99, 212)


def recall_by_images(
    results: dict[str, Any], styles: dict[str, str], limit: float
) -> dict[str, Any]:
    """The chart of recall by number of training images, for the leading set and random selection.

    ``limit`` is the end of the axis. ``slopes`` is {set: points of recall for tenfold images}, a
    least squares line over the classes; empty where all classes have equally many. Classes without
    test images are left out.
    """
    leading, sets, counts = results["set"], results["sets"], results["class_counts"]
    shown = [key for key in ("random", leading) if key in sets]
    recalls = {key: sets[key]["per_class"]["mean"] for key in dict.fromkeys(shown)}
    classes = [k for k in range(len(counts)) if all(one[k] is not None for one in recalls.values())]
    images = [counts[k] for k in classes]
    kept = {key: [one[k] for k in classes] for key, one in recalls.items()}
    slopes = (
        {key: float(np.polyfit(np.log10(images), one, 1)[0]) for key, one in kept.items()}
        if len({*images}) > 1
        else {}
    )
    lines = "; ".join(f"{sets[key]['title']} {100 * slope:+.1f}" for key, slope in slopes.items())
    label = "Recall of each class by its number of training images"
    return {
        "chart": recall_chart(
            images,
            [results["class_names"][k] for k in classes],
            {styles[key]: one for key, one in kept.items()},
            [sets[leading]["per_class"]["std"][k] for k in classes],
            limit,
            f"{label}. Points of recall for tenfold images: {lines}" if lines else label,
        ),
        "slopes": slopes,
        "shown": list(reversed(kept)),
    }


def confusions(results: dict[str, Any]) -> dict[str, Any]:
    """Confusions of the networks trained on the leading set, in shares 0..1 of the true class.

    ``classes`` are the names from head to tail. ``matrix`` has a row (C,) for each measured class,
    by name, where there are few classes; with many, ``picture`` is a PNG of it. ``groups`` is
    {true group: {predicted group: mean share over its classes}}. ``pairs`` are the most frequent
    confusions as (true, predicted, share, images). Empty for results without confusions.
    """
    if not results.get("confusion"):
        return {}
    names, counts = results["class_names"], results["class_counts"]
    images = np.zeros((len(names), len(names)))
    for true, predicted, number in results["confusion"]:
        images[true, predicted] = number
    of_class = images.sum(1)
    shares = images / np.maximum(of_class, 1e-9)[:, None]
    groups = class_groups(counts)
    measured = {name: [k for k in own if of_class[k]] for name, own in groups.items()}
    order = head_to_tail(counts)
    few = len(names) <= MATRIX_CLASSES
    wrong = shares * (1 - np.eye(len(names)))
    ranked = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS].tolist()
    return {
        "classes": [names[k] for k in order],
        "matrix": {names[k]: shares[k, order].tolist() for k in order if of_class[k]}
        if few
        else {},
        "picture": None if few else _picture(shares[np.ix_(order, order)]),
        "groups": {
            name: {
                other: float(shares[np.ix_(own, to)].sum(1).mean()) for other, to in groups.items()
            }
            for name, own in measured.items()
            if own
        },
        "pairs": [
            (names[k], names[other], float(wrong[k, other]), float(images[k, other]))
            for k, other in (divmod(place, len(names)) for place in ranked)
            if wrong[k, other] > 0
        ],
    }


def _picture(shares: np.ndarray) -> str:
    """A PNG data URI with a pixel for each of ``shares`` (C, C); 0 is clear, on any background.

    Opacity is the square root of a share, so that rare confusions are seen.
    """
    ink = np.broadcast_to(np.array(INK, np.uint8), (*shares.shape, 3))
    opacity = (255 * np.sqrt(shares)).round().astype(np.uint8)[..., None]
    return as_data_uri(Image.fromarray(np.concatenate([ink, opacity], 2), "RGBA"))
