"""Render a template to a self-contained HTML file."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import write_atomic
from ltdd_ray.common.units import duration, size
from ltdd_ray.report import charts


def render_page(template: str, view: dict[str, Any]) -> str:
    """The text of ``template``, a file of this package, with the variables ``view``."""
    return _environment().get_template(template).render(view)


@cache  # which keeps compiled templates
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ltdd_ray.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, size=size)
    environment.globals["bar"] = charts.bar
    return environment


def write_page(path: Path, template: str, view: dict[str, Any]) -> Path:
    """Write what :func:`render_page` gives to ``path``.

    Raises ``UserError`` where the file cannot be written.
    """
    try:
        write_atomic(path, render_page(template, view))
    except OSError as error:
        raise UserError(
            f"{path}: not writable: {error.strerror or error}; choose another file with --output"
        ) from error
    return path
