"""What every section of the tree has in common, and how sections nest."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import usable_path
from ltdd_ray.common.registry import Registry


class Section(BaseModel):
    """Frozen; refuses unknown keys, infinities and NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def as_path(path: str | None) -> str | None:
    """:func:`~ltdd_ray.common.files.usable_path` as a check of a key; None stays."""
    try:
        return path and usable_path(path)
    except UserError as error:
        raise ValueError(str(error)) from None


def refuse_repeats(key: str, values: Iterable[object]) -> None:
    """Raise ``ValueError`` if a list of ``key`` names the same value twice."""
    found = list(values)
    repeated = next((value for value in found if found.count(value) > 1), None)
    if repeated is not None:
        raise ValueError(f"{key} names {repeated} {found.count(repeated)} times; name it once")


def section_of(field: FieldInfo) -> type[Section] | None:
    """The section that the field holds: itself, optionally, or as values of a mapping or tuple."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def require_sections(tree: Any, section: type[Section], where: str) -> None:
    """Raise ``UserError`` where ``tree``, or a key of it that is a section, is no mapping."""
    if not isinstance(tree, Mapping):
        raise UserError(f"{where}: {tree!r}: expected a mapping of settings")
    for key, value in tree.items():
        below = section.model_fields.get(str(key))
        kind = below.annotation if below else None
        if not (isinstance(kind, type) and issubclass(kind, Section)):
            continue
        require_sections(value, kind, f"{where}: `{key}`")


class NamingSection(Section):
    """A section whose key ``naming_key`` takes a name of ``registry``.

    What is registered under that name is pickled with the section, so a Ray worker that receives
    the config knows it, too.
    """

    registry: ClassVar[Registry[Any]]
    naming_key: ClassVar[str]

    def __getstate__(self) -> dict[Any, Any]:
        registered = self.registry.get(getattr(self, self.naming_key))
        return {**super().__getstate__(), "registered": registered}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        registered = state.pop("registered")
        super().__setstate__(state)
        if registered is not None:
            self.registry.register(getattr(self, self.naming_key), registered)
