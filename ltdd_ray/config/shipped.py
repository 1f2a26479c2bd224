"""The configs that come with the package: the repository's ``configs/``, by name.

A name is a path below that folder without ``.yaml``: ``demo``, ``cifar10_lt/cpu``. Files that
begin with ``_`` hold what others share and are not listed.
"""

import re
from itertools import takewhile
from pathlib import Path

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.hints import nearest

# In a checkout a link to the top-level folder; the wheel holds the files themselves.
FOLDER = Path(__file__).parents[1] / "configs"


def shipped_configs() -> dict[str, Path]:
    """{name: file}, sorted by name."""
    files = sorted(FOLDER.rglob("*.yaml"))
    return {_name(file): file for file in files if not file.name.startswith("_")}


def find_shipped(name: str) -> Path:
    """The file of the shipped config ``name``. Raises ``UserError`` with the nearest name."""
    configs = {_name(file): file for file in FOLDER.rglob("*.yaml")}
    if name not in configs:
        hint = nearest(name, shipped_configs()) or ";"
        raise UserError(
            f"{name}: no shipped config has this name{hint} `ltdd-ray configs` lists all"
        )
    return configs[name]


def find_config(path_or_name: str | Path) -> Path:
    """The file at this path or, where there is none, the shipped config of this name.

    The path itself where it is neither; reading it then fails with the reason.
    """
    path = Path(path_or_name)
    if path.is_file():
        return path
    return shipped_configs().get(str(path_or_name), path)


def summary(file: Path) -> str:
    """The first sentence of the comment that opens a config."""
    lines = takewhile(lambda line: line.strip("# "), file.read_text().splitlines())
    text = " ".join(line.lstrip("# ") for line in lines)
    return re.match(r".*?[.](?= |$)|.*", text)[0]  # pyright: ignore[reportOptionalSubscript]


def _name(file: Path) -> str:
    return file.relative_to(FOLDER).with_suffix("").as_posix()
