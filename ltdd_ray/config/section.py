"""What every section of the tree has in common, and how sections nest."""

from typing import get_args

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """Frozen; refuses unknown keys, infinities and NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def section_of(field: FieldInfo) -> type[Section] | None:
    """The section that the field holds: itself, optionally, or as values of a mapping or tuple."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None
