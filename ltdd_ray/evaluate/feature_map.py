"""Where the images of a set lie among the real ones: two principal components of their features.

The features are those of representation expert 0, and the set is the first of ``evaluate.sets``.
The components are those of the real images alone, so a set cannot move the axes that it is shown
on. P images of the set, R real images, F features.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ltdd_ray.common.device import default_device
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import read_text, write_atomic
from ltdd_ray.common.seeding import derive_seed
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.evaluate.full_data import FULL_DATA
from ltdd_ray.evaluate.selection import expert_features
from ltdd_ray.evaluate.sets import random_selection, training_set

POINTS = 1000  # of the real images, and of the set: enough to see a shape, few enough for a page
FILE = Path("evaluation", "feature_map.json")


def feature_map(config: RunConfig, data: PreparedData) -> dict[str, Any]:
    """The two components of the first set and of real training images.

    ``real`` and ``set`` are lists of (class, x, y), ``explained`` the shares 0..1 of the variance
    of the real images along x and y. Both lists hold at most about :data:`POINTS` images, equally
    many of each class where it has them.

    Empty where there is nothing to show: the set is all training images, the expert cannot be read
    (the run needs none, or its store was deleted), or all images have equal features.
    """
    first, train = config.evaluate.sets[0], data.train
    if first in FULL_DATA:
        return {}
    per_class = max(1, POINTS // train.num_classes)
    shown = np.minimum(train.class_counts, per_class).tolist()
    index = random_selection(train, shown, derive_seed(config.seed, "feature-map"), 0)
    real = data.normalisation.apply(torch.tensor(train.images[index]))
    given = training_set(config, data, first, 0)
    classes = given.soft_labels.argmax(-1) if given.classes is None else given.classes
    rows = torch.cat([torch.nonzero(classes == k)[:per_class, 0] for k in range(train.num_classes)])
    images = torch.cat([real, given.images[rows]]).to(default_device())
    try:
        features = expert_features(config, train, images).double().cpu().numpy()
    except UserError:
        return {}
    reference = features[: len(real)]
    if (
        min(reference.shape) < 2
        or not np.isfinite(features).all()
        or not np.ptp(reference, 0).any()
    ):
        return {}
    from sklearn.decomposition import PCA  # takes seconds, and no other part of the stage needs it

    components = PCA(2, random_state=0).fit(reference)
    places = components.transform(features).round(4).tolist()
    labels = [*train.labels[index].tolist(), *classes[rows].tolist()]
    points = [(k, *place) for k, place in zip(labels, places)]
    return {
        "explained": components.explained_variance_ratio_.round(4).tolist(),
        "real": points[: len(real)],
        "set": points[len(real) :],
    }


def write_feature_map(config: RunConfig, data: PreparedData, folder: Path, identity: str) -> None:
    """Write :func:`feature_map` into the run's ``folder``, or remove the file of an earlier one.

    ``identity`` is that of the evaluation that it belongs to. A map of this evaluation stays as it
    is.
    """
    if read_feature_map(folder, identity):
        return
    found = feature_map(config, data)
    if found:
        write_atomic(folder / FILE, json.dumps({"identity": identity, **found}) + "\n")
    else:
        (folder / FILE).unlink(missing_ok=True)


def read_feature_map(folder: Path, identity: str | None) -> dict[str, Any]:
    """What :func:`write_feature_map` wrote for the evaluation ``identity``.

    Empty where there is no such file, or one that is damaged or of another evaluation: a chart
    needs it, nothing else.
    """
    try:
        found = json.loads(read_text(folder / FILE))
        return found if found.get("identity") == identity else {}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
