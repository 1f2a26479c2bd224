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
from ltdd_ray.common.files import new_folder, read_text, write_atomic
from ltdd_ray.common.units import size
from ltdd_ray.distill.artifact import DistilledSet, find_distilled
from ltdd_ray.export.card import current_card
from ltdd_ray.export.export import write_files

FOLDER = "hub"
LAST_CARD = "hub.md"  # beside the folder: the card as the last push wrote it


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

    The card of an earlier push is written anew where licence or results are others now. One that
    somebody completed since is sent as it is, or refused where it would have to be written anew.
    ``repository`` is OWNER/NAME, ``licence`` an identifier of the Hub such as ``cc-by-4.0``. Raises
    ``UserError`` for a place without a set, for a folder of another set or one that cannot be
    written, for a name that the Hub refuses, and where the Hub cannot be reached or does not know
    the user.
    """
    _require_name(repository)
    file = find_distilled(place)
    folder, card = file.with_name(FOLDER), current_card(file, "parquet", licence)
    try:
        if not folder.exists():
            _fill(folder, file, card)
        _require_this_set(folder, file)
        _renew_card(folder, card)
    except OSError as error:
        raise UserError(
            f"{folder}: not writable: {error.strerror or error}; make room or correct the "
            "permissions there, and push again"
        ) from error
    address = _send(folder, repository, private) if send else None
    return Push(folder, repository, private, address)


def _fill(folder: Path, file: Path, card: str) -> None:
    distilled = DistilledSet.load(file)
    with new_folder(folder) as draft:
        write_files(distilled, "parquet", card, draft)
        for own in (file, file.with_suffix(".json")):
            if own.exists():  # the second is for people, and may be missing
                shutil.copyfile(own, draft / own.name)


def _renew_card(folder: Path, card: str) -> None:
    """Replace a card that only ``push`` wrote; raise ``UserError`` for an outdated edited one."""
    place, record = folder / "README.md", folder.with_name(LAST_CARD)
    last = _text(record)
    if _text(place) not in (None, last, card):
        if last == card:  # completed by somebody, and nothing has changed since
            return
        raise UserError(
            f"{place}: was edited, and licence, results or version have changed since; move it "
            "away, push again, and put your words into the new card"
        )
    for file in (place, record):  # in this order: a lost record never hides an outdated card
        if _text(file) != card:
            write_atomic(file, card)


def _text(file: Path) -> str | None:
    return read_text(file, errors="replace") if file.exists() else None


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
