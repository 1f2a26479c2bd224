"""Where the run is that a command's word RUN means."""

from pathlib import Path

from ltdd_ray.common.address import is_address
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.shell import command
from ltdd_ray.config.loading import load_config
from ltdd_ray.config.shipped import find_config

CONFIG_FILES = (".yaml", ".yml")


def place_of_run(place: Path | str) -> Path | str:
    """The folder or address of its run where ``place`` is a config; any other place as it is.

    A config is a YAML file or, where no such file or folder exists, the name of a shipped config.
    Raises ``UserError`` for a config that cannot be read, and where its run has no folder yet.
    """
    if is_address(place) or (path := find_config(place)).suffix not in CONFIG_FILES:
        return place
    if Path(place).is_dir() or not path.is_file():
        return place
    config = load_config(path)
    if config.address is not None:
        return config.address
    if not config.folder.exists():
        raise UserError(
            f"{place}: the folder of its run, {config.folder}, does not exist; "
            f"run `{command('run', place)}` first, or name another folder"
        )
    return config.folder
