"""The complete state of a distillation in two plain files. Resuming from it is exact."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import read_text, write_atomic
from ltdd_ray.data.dataset import LongTailedDataset

STATE, PROGRESS = "state.safetensors", "progress.json"
OPTIMISER_STATE = ("momentum_buffer", "exp_avg", "exp_avg_sq", "step")  # of SGD and of Adam
MADE_FROM = "dataset_fingerprint"  # its key in PROGRESS


def save_checkpoint(
    folder: Path,
    synthetic: nn.Module,
    optimiser: torch.optim.Optimizer,
    update: int,
    train: LongTailedDataset,
) -> None:
    """Write parameters, the optimiser's state and the number of updates done into ``folder``.

    All randomness is a function of that number. The fingerprint of the training images ``train`` is
    written too.
    """
    tensors = {name: p.detach().cpu().contiguous() for name, p in synthetic.state_dict().items()}
    for name, parameter in synthetic.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"{key}.{name}"] = value.cpu().contiguous()
    write_atomic(folder / STATE, save(tensors))
    write_atomic(folder / PROGRESS, json.dumps({"update": update, MADE_FROM: train.fingerprint}))


def load_checkpoint(
    folder: Path,
    synthetic: nn.Module,
    optimiser: torch.optim.Optimizer,
    train: LongTailedDataset,
) -> int:
    """Load a checkpoint into ``synthetic`` and ``optimiser``; return the number of updates done.

    Raises ``UserError`` for a file that is not safetensors, and where the training images are not
    those that the checkpoint was made from. A checkpoint of an older version does not name them.
    """
    progress = _read_progress(folder)
    made_from = progress.get(MADE_FROM, train.fingerprint)
    if made_from != train.fingerprint:
        raise UserError(
            f"{folder}: the checkpoint was made from other training images ({MADE_FROM} "
            f"{made_from}, now {train.fingerprint}); restore them, keep both with --set name=..., "
            "or delete the folder `distilled` of this run to distil anew"
        )
    try:
        tensors = load_file(folder / STATE)
    except SafetensorError as error:
        raise UserError(
            f"{folder / STATE}: not a readable checkpoint ({error}); remove {folder} and run again"
        ) from None
    synthetic.load_state_dict({name: tensors[name] for name in synthetic.state_dict()})
    for name, parameter in synthetic.named_parameters():
        for key in OPTIMISER_STATE:
            if f"{key}.{name}" in tensors:
                # Adam keeps its count of steps on the CPU.
                device = torch.device("cpu") if key == "step" else parameter.device
                optimiser.state[parameter][key] = tensors[f"{key}.{name}"].to(device)
    return progress["update"]


def finished_updates(folder: Path | None) -> int:
    """The updates done in a checkpoint; 0 without one. Raises ``UserError`` for a damaged one."""
    return _read_progress(folder)["update"] if folder else 0


def _read_progress(folder: Path) -> dict[str, Any]:
    try:
        progress = json.loads(read_text(folder / PROGRESS))
        if isinstance(progress, dict) and isinstance(progress.get("update"), int):
            return progress
    except (OSError, ValueError, RecursionError):
        pass
    raise UserError(
        f"{folder / PROGRESS}: not a readable checkpoint; remove {folder} and run again"
    )
