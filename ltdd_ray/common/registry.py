"""Names that a config may use: the built-in ones, and those that a user registers."""

import difflib
import re
import sys
from collections.abc import Sequence
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Generic, TypeVar

from ltdd_ray.common.errors import UserError

T = TypeVar("T")


class Registry(Generic[T]):
    """The names of one ``kind`` ("network", "source", ...) and the values registered under them.

    Built-in names are only listed here: the room that implements them keeps their values.
    """

    def __init__(self, kind: str, built_in: tuple[str, ...]) -> None:
        self.kind, self.built_in = kind, built_in
        self._registered: dict[str, T] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """All names, the built-in ones first."""
        return (*self.built_in, *self._registered)

    def register(self, name: str, value: T) -> None:
        """Store ``value`` under ``name``, in place of what was registered under it before.

        Raises ``UserError`` for a built-in name and for one that cannot be part of a file name.
        """
        if name in self.built_in:
            raise UserError(f"{self.kind} `{name}` is built in; register yours under another name")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise UserError(
                f"{self.kind} {name!r} cannot be registered: use letters, digits and . _ - in names"
            )
        self._registered[name] = value

    def get(self, name: str) -> T | None:
        """What is registered under ``name``; None for built-in and unknown names."""
        return self._registered.get(name)

    def check(self, name: str) -> str:
        """``name`` itself if it is known. Raises ``ValueError`` with the nearest known name."""
        if name not in self.names:
            near = difflib.get_close_matches(name, self.names, n=1)
            hint = f"did you mean `{near[0]}`? " if near else ""
            raise ValueError(
                f"unknown {self.kind} `{name}`; {hint}There are "
                f"{', '.join(self.names)}, and those that modules listed in `plugins` register"
            )
        return name


def import_plugins(modules: Sequence[str]) -> None:
    """Import ``modules``, which register sources, networks and methods.

    They are found where Python finds modules, and in the working directory after that.
    Raises ``UserError`` for a module that is not found or fails.
    """
    here = str(Path.cwd())
    if modules and here not in sys.path:
        sys.path.append(here)
    invalidate_caches()
    for name in modules:
        try:
            import_module(name)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"plugins: module `{name}` cannot be imported ({type(error).__name__}: {error}); "
                "install it, or run in the folder that holds it"
            ) from error
