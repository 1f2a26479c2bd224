"""The complete state of a distillation as two plain files: resuming from it is exact."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import write_atomic

STATE, PROGRESS = "state.safetensors", "progress.json"


def save_checkpoint(
    folder: Path, synthetic: nn.Module, optimiser: torch.optim.SGD, update: int
) -> None:
    """Write parameters, momenta and the number of updates done into ``folder``. All randomness is a function of the latter."""
    tensors = {name: p.detach().cpu().contiguous() for name, p in synthetic.state_dict().items()}
    for name, parameter in synthetic.named_parameters():
        momentum = optimiser.state.get(parameter, {}).get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum.cpu().contiguous()
    write_atomic(folder / STATE, save(tensors))
    write_atomic(folder / PROGRESS, json.dumps({"update": update}))


def load_checkpoint(folder: Path, synthetic: nn.Module, optimiser: torch.optim.SGD) -> int:
    """Put a checkpoint's state into ``synthetic`` and ``optimiser``; returns the number of updates done.

    Raises ``UserError`` for a file of any other format than safetensors.
    """
    try:
        tensors = load_file(folder / STATE)
    except SafetensorError as error:
        raise UserError(
            f"{folder / STATE}: not a readable checkpoint ({error}); remove its folder and run again"
        ) from None
    synthetic.load_state_dict({name: tensors[name] for name in synthetic.state_dict()})
    for name, parameter in synthetic.named_parameters():
        if f"momentum.{name}" in tensors:
            optimiser.state[parameter]["momentum_buffer"] = tensors[f"momentum.{name}"].to(
                parameter.device
            )
    return int(json.loads((folder / PROGRESS).read_text())["update"])
