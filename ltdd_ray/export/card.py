"""The dataset card: a README.md with the front matter of Hugging Face, made from a distilled set and what its run measured."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ltdd_ray.common.files import write_atomic
from ltdd_ray.distill.artifact import DistilledSet

# What the card says of the results' sets.
SETS = {
    "distilled": "this set",
    "distilled_8bit": "this set, its images in 8 bits",
    "initial": "the real images it was initialised with",
    "random": "as many real images, chosen at random",
}
# The brackets of Hugging Face's size_categories, by their upper end.
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}


def write_card(file: Path) -> Path:
    """Write the card beside the ``distilled.safetensors`` at ``file``, with the numbers of its run as far as they are there."""
    path = file.with_name("README.md")
    write_atomic(path, render_card(DistilledSet.load(file), read_results(file), "native"))
    return path


def read_results(file: Path) -> dict[str, Any]:
    """What the run that ``file`` (.../distilled/distilled.safetensors) lies in has measured; empty before its evaluation."""
    results = file.resolve().parent.parent / "results.json"
    return (
        json.loads(results.read_text())
        if file.parent.name == "distilled" and results.exists()
        else {}
    )


def render_card(distilled: DistilledSet, results: dict[str, Any], form: str) -> str:
    """The card's text for the set's own file (``form`` native) or one of the layouts of an export.

    The licence is left open, as it depends on that of the real images.
    """
    environment = Environment(
        loader=PackageLoader("ltdd_ray.export", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["yaml"] = json.dumps  # JSON strings and lists are YAML
    measured = results.get("sets", {})
    return environment.get_template("card.md").render(
        set=distilled,
        per_class=distilled.classes.bincount().tolist(),
        name=results.get("name", "distilled set"),
        form=form,
        results=results,
        rows=[(title, measured[key]) for key, title in SETS.items() if key in measured],
        size_category=next(
            (name for limit, name in SIZES.items() if len(distilled) < limit), "n>1M"
        ),
    )
