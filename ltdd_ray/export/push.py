"""``ltdd-ray push``: publish a distilled set as a dataset on the Hugging Face Hub.

Without ``send`` it writes the files and tells what would be sent where, so that somebody looks at
them first. The files are the layout ``parquet`` of an export, and the set itself.
"""

import shutil
from dataclasses import dataclass
from filecmp import cmp
from importlib import import_module
from pathlib import Path
from typing import Any

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.units import size
from ltdd_ray.distill.artifact import find_distilled
from ltdd_ray.export.export import export

FOLDER = "hub"


@dataclass(frozen=True)
class Push:
    """The files in ``folder``, and the address of the dataset, or None where nothing was sent."""

    folder: Path
    repository: str
    private: bool
    address: str | None

    def sentences(self) -> list[str]:
        """What to tell the user."""
        files = sorted(file for file in self.folder.rglob("*") if file.is_file())
        lines = [f"{file.relative_to(self.folder)}: {size(file.stat().st_size)}" for file in files]
        if self.address is not None:
            return [*lines, f"sent to {self.address}"]
        who = "you and those you name" if self.private else "everybody"
        return [
            *lines,
            f"nothing was sent; look at {self.folder}, then add --send: {who} can read "
            f"the dataset {self.repository} on the Hugging Face Hub",
        ]


def push(place: Path, repository: str, licence: str, private: bool, send: bool) -> Push:
    """Write the files of the set at ``place`` to the folder ``hub`` beside it; send if ``send``.

    A folder of an earlier push is left as it is, so a card that somebody completed is sent.
    ``repository`` is OWNER/NAME, ``licence`` an identifier of the Hub such as ``cc-by-4.0``. Raises
    ``UserError`` for a place without a set, for a folder of another set, for a name that the Hub
    refuses, and where the Hub cannot be reached or does not know the user.
    """
    _require_name(repository)
    file = find_distilled(place)
    folder = file.with_name(FOLDER)
    if not folder.exists():
        export(file, "parquet", folder, licence)
        for own in (file.with_suffix(".json"), file):
            shutil.copyfile(own, folder / own.name)
    _require_this_set(folder, file)
    address = _send(folder, repository, private) if send else None
    return Push(folder, repository, private, address)


def _require_this_set(folder: Path, file: Path) -> None:
    copy = folder / file.name
    if not copy.exists() or not cmp(copy, file, shallow=False):
        raise UserError(f"{folder}: holds the files of another set; remove it and push again")


def _require_name(repository: str) -> None:
    validation = _hub("errors").HFValidationError
    try:
        _hub("utils").validate_repo_id(repository)
    except validation as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{repository!r} is no name of a dataset: {reason}") from None
    if "/" not in repository:
        raise UserError(f"{repository!r} names no owner; give OWNER/NAME, such as YOU/{repository}")


def _send(folder: Path, repository: str, private: bool) -> str:
    errors, hub = _hub("errors"), _hub("hf_api").HfApi()
    try:
        hub.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=folder,
            commit_message="Distilled set",
        )
    except (errors.HfHubHTTPError, errors.LocalTokenNotFoundError, OSError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"{repository}: the Hub took nothing: {lines[0]}; check the network, and run "
            "`hf auth login` with a token that may write there"
        ) from None
    return f"{hub.endpoint}/datasets/{repository}"


def _hub(module: str) -> Any:
    try:
        return import_module(f"huggingface_hub.{module}")
    except ImportError:
        raise UserError(
            "push needs the package huggingface_hub, which is not installed; run "
            "`pip install ltdd-ray[hub]`"
        ) from None
