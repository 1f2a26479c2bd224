"""MkDocs hook: writes the tables of the configuration page from the config tree itself."""

import json
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ltdd_ray.config import RunConfig, Section, decides
from ltdd_ray.config.section import section_of

PLACE = "<!-- settings -->"
KINDS = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null"}
BOUNDS = {Ge: ("at least", "ge"), Gt: ("above", "gt"), Le: ("at most", "le"), Lt: ("below", "lt")}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the tables where a page asks for them."""
    if PLACE not in markdown:
        return markdown
    return markdown.replace(PLACE, "\n\n".join(tables(RunConfig, "", "Keys outside of sections.")))


def tables(section: type[Section], prefix: str, about: str) -> Iterator[str]:
    """A heading and a table for each section of the tree, outer sections first."""
    yield f"## {prefix.rstrip('.') or 'Top level'}\n\n{about}"
    rows = [
        f"| `{prefix}{name}` | {_type(field)} | {_default(field)} | {field.description} "
        f"| {decides(prefix + name)} |"
        for name, field in section.model_fields.items()
        if _is_value(field)
    ]
    if rows:
        head = ["| key | type | default | meaning | decides |", "|---|---|---|---|---|"]
        yield "\n".join([*head, *rows])
    for name, field in section.model_fields.items():
        below = section_of(field)
        if below is not None:
            repeated = {dict: "KEY.", tuple: "INDEX."}.get(get_origin(field.annotation), "")
            yield from tables(below, f"{prefix}{name}.{repeated}", field.description or "")


def _is_value(field: FieldInfo) -> bool:
    """Whether a config may hold anything but a plain section here."""
    return not (isinstance(field.annotation, type) and issubclass(field.annotation, Section))


def _type(field: FieldInfo) -> str:
    bounds = []
    for bound in field.metadata:
        if type(bound) in BOUNDS:
            words, name = BOUNDS[type(bound)]
            bounds.append(f"{words} {getattr(bound, name)}")
        elif isinstance(bound, MinLen):
            bounds.append(f"at least {bound.min_length} of them")
    return ", ".join([_kind(field.annotation), *bounds])


def _kind(annotation: Any) -> str:
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if get_origin(annotation) is tuple:
        return f"list of: {_kind(parts[0])}"
    if get_origin(annotation) is dict:
        return "mapping to sections (below)"
    if hasattr(annotation, "__metadata__"):  # Annotated
        return _kind(parts[0])
    if parts:
        return " or ".join(dict.fromkeys(map(_kind, parts)))
    if issubclass(annotation, Section):
        return "section (below)"
    return KINDS[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return "that of its keys"
    text = json.dumps(default, default=lambda value: value.model_dump(exclude_defaults=True))
    return f"`{text}`"
