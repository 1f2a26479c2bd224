"""The dataset card of a distilled set: a README.md with the front matter of Hugging Face."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ltdd_ray.common.files import read_text, resolved, write_atomic
from ltdd_ray.distill.artifact import DistilledSet
from ltdd_ray.evaluate.plan import measured_on
from ltdd_ray.evaluate.results import accuracy_text, describe_robustness
from ltdd_ray.report.finished import fitting_files

# The card's names for the sets in results.json.
SETS = {
    "distilled": "this set",
    "distilled_hard": "this set, its images with one class each",
    "distilled_unaugmented": "this set, without augmentation",
    "distilled_8bit": "this set, its images in 8 bits",
    "initial": "the real images it was initialised with",
    "random": "as many real images, chosen at random",
    "random_unaugmented": "as many real images, chosen at random, without augmentation",
    "random_soft": "as many real images, chosen at random, with the experts' labels",
    "random_soft_unaugmented": "as many real images with the experts' labels, not augmented",
    "full_ce": "all real images",
}
# The size_categories of Hugging Face by their upper limits.
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}


def write_card(file: Path) -> Path:
    """Write README.md beside ``file``, a distilled.safetensors, and return its path.

    The card has the accuracies of the run if there are results of this set already.
    """
    path = file.with_name("README.md")
    write_atomic(path, current_card(file, "native"))
    return path


def current_card(file: Path, form: str, licence: str | None = None) -> str:
    """The card of the set in ``file`` as it is now; the other arguments are render_card's.

    It has the accuracies of the run if there are results of this set already.
    """
    distilled, results = DistilledSet.load(file), read_results(file)
    if not measured_on(results, file):
        results = {}
    with fitting_files(run_of(file)):
        return render_card(distilled, results, form, licence)


def run_of(file: Path) -> Path:
    """The folder of the run that holds ``file``, which may be named from inside of the folder."""
    return resolved(file).parent.parent


def read_results(file: Path) -> dict[str, Any]:
    """The results.json of the run that holds ``file`` (.../distilled/distilled.safetensors).

    Empty before the evaluation, for a cut one, and for a file outside of a run.
    """
    if resolved(file).parent.name != "distilled":
        return {}
    try:
        content = json.loads(read_text(run_of(file) / "results.json"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def render_card(
    distilled: DistilledSet, results: dict[str, Any], form: str, licence: str | None = None
) -> str:
    """The text of the card.

    ``form`` is the layout of an export, or native for distilled.safetensors. ``results`` is the
    content of results.json, or empty. Without ``licence``, an identifier of Hugging Face, the card
    says that it is unknown: it depends on the licence of the real images.
    """
    environment = Environment(
        loader=PackageLoader("ltdd_ray.export", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["yaml"] = json.dumps  # JSON strings and lists are YAML
    environment.globals["accuracy_text"] = accuracy_text
    measured = results.get("sets", {})
    return environment.get_template("card.md").render(
        set=distilled,
        per_class=distilled.classes.bincount().tolist(),
        name=results.get("name", "distilled set"),
        form=form,
        licence=licence,
        features=features(distilled),
        results={"unmeasured_classes": [], **results},
        robustness=describe_robustness(scores) if (scores := results.get("robustness")) else "",
        rows=[(title, measured[key]) for key, title in SETS.items() if key in measured],
        # Results of older versions lack it.
        over_images=all("accuracy_over_images" in one for one in measured.values()),
        size_category=next(
            (name for limit, name in SIZES.items() if len(distilled) < limit), "n>1M"
        ),
    )


def features(distilled: DistilledSet) -> dict[str, Any]:
    """``dataset_info`` of the card: the columns of the Parquet file, and its number of rows."""
    names = {str(number): name for number, name in enumerate(distilled.class_names)}
    columns = [
        {"name": "image", "dtype": "image"},
        {"name": "label", "dtype": {"class_label": {"names": names}}},
        {"name": "soft_label", "sequence": "float32"},
    ]
    return {"features": columns, "splits": [{"name": "train", "num_examples": len(distilled)}]}
