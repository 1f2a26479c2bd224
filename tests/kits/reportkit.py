"""The folder of an evaluated run, written without the work, and a parser for the report's page."""

import json
from html.parser import HTMLParser
from pathlib import Path

import torch

from ltdd_ray.data.normalisation import Normalisation
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.report.page import write_report

# Labels are not sorted by count, and names must be escaped.
CLASS_NAMES = ("plane", "<b>bold</b>", "deer & doe", 'it\'s "quoted"')
CLASS_COUNTS = [40, 5000, 7, 600]
INFORMATION = {
    "commit": "abc123",
    "hardware": {"cpu": "fast", "memory": 2**34, "gpus": []},
    "timings": {"experts": 3723.0, "distill": 95.2, "evaluate": 0.04},
    "peak_memory": {"experts": 3 * 2**29, "distill": 2**29},
}
IPC, SHAPE = 3, (3, 6, 8)
# [true class, predicted class, images]; the smallest class is mostly taken for the largest.
CONFUSION = [
    *([0, 0, 5.5], [0, 1, 4.5], [1, 0, 0.05], [1, 1, 9.95]),
    *([2, 1, 6.5], [2, 2, 3.5], [3, 1, 4.0], [3, 3, 6.0]),
]
FEATURE_MAP = {
    "identity": "0123",
    "explained": [0.4, 0.25],
    "real": [[0, -1.0, 0.0], [1, 1.0, 2.0], [1, 0.5, 1.0], [2, 3.0, -2.0], [3, 0.0, 0.0]],
    "set": [[0, -0.5, 0.0], [1, 1.0, 1.0], [2, 2.0, -1.0], [3, 0.5, 0.5]],
}


class Page(HTMLParser):
    """Every tag of a page with its attributes, and the text of all of them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += f" {data}"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def accuracies(shift: float) -> dict:
    """Every mean ``shift`` above a base."""
    per_class = [0.4 + shift, 0.5 + shift, 0.2 + shift, 0.45 + shift]
    return {
        "accuracy": {"mean": 0.3875 + shift, "std": 0.01, "runs": [0.3775 + shift, 0.3975 + shift]},
        "accuracy_over_images": {
            "mean": 0.45 + shift,
            "std": 0.02,
            "runs": [0.43 + shift, 0.47 + shift],
        },
        "per_class": {"mean": per_class, "std": [0.02] * 4},
        "groups": {
            name: {"mean": mean + shift, "std": 0.015}
            for name, mean in (("many", 0.5), ("medium", 0.425), ("few", 0.2))
        },
    }


def measured(title: str, kind: str, labels: str, shift: float) -> dict:
    """One set of results.json."""
    confidence = {
        name: {"mean": mean - shift, "std": 0.01}
        for name, mean in (("many", 0.9), ("medium", 0.8), ("few", 0.7))
    }
    return {
        "title": title,
        "kind": kind,
        "images": 5647 if kind == "long-tailed" else 12,
        "labels": labels,
        **accuracies(shift),
        "confidence": {"predicted_class": confidence, "true_class": confidence},
        "classifier_norms": [
            1.0,
            1.0 + 10 * shift,
            1.0,
            1.0,
        ],  # the largest class's row is longer, the smallest's is not
    }


def results(*left_out: str) -> dict:
    described = {
        "name": "trial",
        "dataset": "pictures",
        "imbalance_factor": None,
        "ipc": IPC,
        "method": "ltdd",
        "split": "test",
    }
    classes = {"class_names": list(CLASS_NAMES), "class_counts": CLASS_COUNTS}
    model = {
        "model": {"name": "convnet", "width": 32, "depth": 3, "norm": "instance"},
        "teacher_queried": False,
    }
    sets = {
        "distilled": measured("LTDD", "distilled", "soft", 0.15),
        "distilled_calibrated": {
            **measured("LTDD, calibrated", "distilled", "soft", 0.1),
            "tau": 0.256,
        },
        "random": measured("Random selection", "randomly selected", "hard", 0.0),
        "initial": measured("Before distillation", "initial", "soft", 0.05),
    }
    sets = {name: one for name, one in sets.items() if name not in left_out}
    first = next(iter(sets))
    more = {
        "cross_architecture": {
            "convnet3-w32-instance": accuracies(0.15),
            "resnet18-batch": accuracies(0.11),
        },
        "expert_classifier_norms": {
            "representation": [2.0, 8.0, 1.0, 5.0],
            "classifier": [3.0, 3.0, 3.0, 3.0],
        },
    }
    measured_on = {"identity": "0123", "confusion": CONFUSION}
    return (
        described
        | classes
        | model
        | {"set": first, **sets[first], "sets": sets}
        | more
        | (measured_on)
    )


def distilled_set(seed: int) -> DistilledSet:
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(len(CLASS_NAMES) * IPC, *SHAPE, generator=draw)
    return DistilledSet(
        images=images,
        soft_labels=torch.rand(len(images), len(CLASS_NAMES), generator=draw).softmax(1),
        classes=torch.arange(len(CLASS_NAMES)).repeat_interleave(IPC),
        learning_rate=0.02,
        normalisation=Normalisation(torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.25)),
        class_names=CLASS_NAMES,
        augmentation="",
    )


def write_run(
    folder: Path, found: dict | None = None, config: str = "name: trial  # <script>\n"
) -> Path:
    """A run with all that a page can show; ``found`` is the content of results.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(found or results()))
    (folder / "config.yaml").write_text(config)
    (folder / "run.json").write_text(json.dumps(INFORMATION))
    (folder / "evaluation").mkdir(exist_ok=True)
    (folder / "evaluation" / "feature_map.json").write_text(json.dumps(FEATURE_MAP))
    distilled_set(1).save(folder / "distilled")
    distilled_set(0).save(folder / "distilled", "initial")
    updates = [
        {"update": u, "loss/total": 1 / u, "loss/representation": 0.9, "syn_lr": 0.01 * u}
        for u in range(1, 6)
    ]
    (folder / "distilled" / "history.jsonl").write_text(
        "".join(json.dumps(u) + "\n" for u in updates)
    )
    return folder


def rendered(run_folder: Path) -> Page:
    path = write_report(run_folder)
    assert path == run_folder / "report.html"
    return Page(path.read_text(encoding="utf-8"))
