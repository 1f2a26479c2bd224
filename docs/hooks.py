"""MkDocs hook: the configuration page is written from the config tree itself."""

import re
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ltdd_ray.config import RunConfig

PLACE = "<!-- settings -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the tables where a page asks for them."""
    return (
        markdown.replace(PLACE, "\n\n".join(tables(RunConfig, "")))
        if PLACE in markdown
        else markdown
    )


def tables(section: type[BaseModel], prefix: str) -> list[str]:
    """A heading and a table per section of the tree, outer sections first."""
    leaves = {name: field for name, field in section.model_fields.items() if not _is_section(field)}
    rows = [
        f"| `{prefix}{name}` | `{_type(field)}` | {_default(field)} | {field.description or ''} |"
        for name, field in leaves.items()
    ]
    head = f"## {prefix.rstrip('.') or 'The run'}\n\n{_first_paragraph(section)}"
    found = [
        "\n".join([head, "", "| key | type | default | |", "|---|---|---|---|", *rows])
        if rows
        else head
    ]
    for name, field in section.model_fields.items():
        if _is_section(field):
            found += tables(field.annotation, f"{prefix}{name}.")  # pyright: ignore[reportArgumentType]
    return found


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _type(field: FieldInfo) -> str:
    union = get_origin(field.annotation) in (Union, UnionType)
    kinds = get_args(field.annotation) if union else (field.annotation,)
    text = " or ".join(kind.__name__ if isinstance(kind, type) else str(kind) for kind in kinds)
    text = (
        re.sub(r"typing\.|ltdd_ray\.config\.|Literal", "", text)
        .replace("NoneType", "null")
        .replace("None", "null")
    )
    return f"{text} {', '.join(str(m) for m in field.metadata)}".strip().replace("|", "or")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    return "null" if default is None else f"`{default}`"


def _first_paragraph(section: type[BaseModel]) -> str:
    doc = section.__dict__.get("__doc__") or ""
    return " ".join(doc.split("\n\n")[0].split())
