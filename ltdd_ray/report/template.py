"""Render a template to a self-contained HTML file."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import write_atomic
from ltdd_ray.common.units import duration, size
from ltdd_ray.report import charts


def write_page(path: Path, template: str, view: dict[str, Any]) -> Path:
    """Render ``template``, a file of this package, with the variables ``view`` into ``path``.

    Raises ``UserError`` where the file cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("ltdd_ray.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, size=size)
    environment.globals["bar"] = charts.bar
    try:
        write_atomic(path, environment.get_template(template).render(view))
    except OSError as error:
        raise UserError(
            f"{path}: not writable: {error.strerror or error}; choose another file with --output"
        ) from error
    return path
