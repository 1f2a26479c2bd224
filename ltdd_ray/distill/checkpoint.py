"""The complete state of a distillation in two plain files. Resuming from it is exact."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import write_atomic

STATE, PROGRESS = "state.safetensors", "progress.json"
OPTIMISER_STATE = ("momentum_buffer", "exp_avg", "exp_avg_sq", "step")  # of SGD and of Adam


def save_checkpoint(
    folder: Path, synthetic: nn.Module, optimiser: torch.optim.Optimizer, update: int
) -> None:
    """Write parameters, the optimiser's state and the number of updates done into ``folder``.

    All randomness is a function of that number.
    """
    tensors = {name: p.detach().cpu().contiguous() for name, p in synthetic.state_dict().items()}
    for name, parameter in synthetic.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"{key}.{name}"] = value.cpu().contiguous()
    write_atomic(folder / STATE, save(tensors))
    write_atomic(folder / PROGRESS, json.dumps({"update": update}))


def load_checkpoint(folder: Path, synthetic: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """Load a checkpoint into ``synthetic`` and ``optimiser``; return the number of updates done.

    Raises ``UserError`` for a file that is not safetensors.
    """
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
    return int(json.loads((folder / PROGRESS).read_text())["update"])
