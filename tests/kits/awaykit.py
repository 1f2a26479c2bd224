"""A second device on a machine without one: tensors on the CPU that report another device.

It refuses what a GPU refuses: an operation on tensors of two devices, and access to memory from
outside of torch. Its name is that of torch's device without memory, "meta".
"""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("meta")
aten = torch.ops.aten
# A GPU also accepts indices on the CPU, and copies between devices.
MAY_MIX = {
    aten.index.Tensor,
    aten.index_put_.default,
    aten.index_put.default,
    aten._index_put_impl_.default,
    aten.copy_.default,
}


class Away(Tensor):
    """``inner``, a CPU tensor, as a tensor on :data:`DEVICE`."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Away":
        shell = Tensor._make_wrapper_subclass(
            cls, inner.shape, inner.stride(), dtype=inner.dtype, device=DEVICE
        )
        shell.inner = inner
        return shell

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return _run(operation, args, kwargs or {})


class OtherDevice(TorchDispatchMode):
    """Within it, tensors made on :data:`DEVICE` are :class:`Away`."""

    def __enter__(self) -> "OtherDevice":
        self._literals = _Literals().__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._literals.__exit__(*error)

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return _run(operation, args, kwargs or {})


class _Literals(TorchFunctionMode):
    """Functions that dispatch no operation, so that the dispatch mode does not see them."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.tensor and torch.device(kwargs.pop("device", None) or "cpu") == DEVICE:
            return torch.tensor(*args, **kwargs).to(DEVICE)
        if function is Tensor.new_tensor and isinstance(args[0], Away):
            return args[0].inner.new_tensor(*args[1:], **kwargs).to(DEVICE)
        if function is Tensor.tolist and isinstance(args[0], Away):
            return args[0].inner.tolist()
        return function(*args, **kwargs)


def _run(operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    away = any(isinstance(tensor, Away) for tensor in given)
    if (
        away
        and operation not in MAY_MIX
        and (here := [t for t in given if not isinstance(t, Away) and t.dim() > 0])
    ):
        raise RuntimeError(
            f"{operation} on tensors of two devices, one of shape {tuple(here[0].shape)} on the CPU"
        )
    wanted = kwargs.get("device")
    if wanted is not None:
        away = torch.device(wanted) == DEVICE
        kwargs = {**kwargs, "device": torch.device("cpu")}
    plain_args, plain_kwargs = tree_map_only(Away, lambda tensor: tensor.inner, (args, kwargs))
    result = operation(*plain_args, **plain_kwargs)
    if operation._schema.is_mutable and not operation._schema.name.endswith("_out"):
        return args[0]  # changed in place
    return tree_map_only(Tensor, Away, result) if away else result
