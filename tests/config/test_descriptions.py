"""Every key of the config says what it means."""

import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from ltdd_ray.config import RunConfig, Section
from ltdd_ray.config.section import section_of


def keys(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of the tree, those of optional sections, of mapping values and of tuples too."""
    for name, field in section.model_fields.items():
        yield prefix + name, field
        below = section_of(field)
        if below is not None:
            yield from keys(below, f"{prefix}{name}.")


KEYS = dict(keys(RunConfig))
HOOKS = Path(__file__).parents[2] / "docs" / "hooks.py"


def test_the_walk_reaches_every_kind_of_section() -> None:
    assert len(KEYS) > 140
    plain, optional = "distill.representation.dam.lambda_prior", "distill.budget.share"
    in_a_mapping, in_a_tuple = "search.space.log", "evaluate.models.width"
    assert {plain, optional, in_a_mapping, in_a_tuple} <= set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_described(key: str) -> None:
    description = KEYS[key].description or ""
    name = key.rpartition(".")[2].replace("_", " ")
    said = set(description.lower().rstrip(".").split()) - set(name.split())
    assert len(said) >= 3, f"{key}: {description!r} says too little"
    assert description.endswith("."), f"{key}: {description!r} is no sentence"


def test_the_configuration_page_shows_every_description() -> None:
    hooks = runpy.run_path(str(HOOKS))
    page = hooks["on_page_markdown"](f"# Configuration\n\n{hooks['PLACE']}")
    assert page.startswith("# Configuration\n\n## Top level\n")
    for key, field in KEYS.items():
        assert field.description in page, key
