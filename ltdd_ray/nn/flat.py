"""A network as a pure function of one parameter vector, theta in R^P = (theta_b backbone | theta_c classifier).

P parameters, Pb of them backbone, Pc classifier; B batch, F features, C classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ltdd_ray.common.layout import Parameter, ParameterLayout


class FlatModel:
    """Any ``nn.Module`` that has a ``classifier``, as a function of a vector.

    The function is that of training mode, with batch norm on batch statistics: a trajectory holds
    parameters and no running averages. The module keeps its weights, its buffers and its mode.
    Raises ``TypeError`` for a module without a ``classifier``.
    """

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(getattr(model, "classifier", None), nn.Module):
            raise TypeError(
                f"{type(model).__name__} has no module named `classifier`; "
                "name its last layer so, because matching treats it apart from the backbone"
            )
        self.model = model
        named = dict(model.named_parameters())
        names = sorted(named, key=_in_classifier)  # stable: each part in module order
        sizes = [named[name].numel() for name in names]
        parameters = tuple(
            Parameter(name, tuple(named[name].shape), offset)
            for name, offset in zip(names, accumulate(sizes, initial=0))
        )
        self._head = tuple(p for p in parameters if _in_classifier(p.name))
        backbone_size = sum(sizes) - sum(p.size for p in self._head)
        self.layout = ParameterLayout(parameters, backbone_size)
        self._classifier: nn.Module = model.classifier  # pyright: ignore[reportAttributeAccessIssue]

    def initial(self) -> Tensor:
        """The module's own weights as a new vector (P,)."""
        named = dict(self.model.named_parameters())
        return torch.cat([named[p.name].detach().flatten() for p in self.layout.parameters])

    def split(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Views (theta_b (Pb,), theta_c (Pc,)) of theta (P,)."""
        return theta[: self.layout.backbone_size], theta[self.layout.backbone_size :]

    def views(self, theta: Tensor) -> dict[str, Tensor]:
        """The parameters by name, each a view of theta (P,) in its own shape."""
        return self._views(theta, self.layout.parameters)

    def logits(self, theta: Tensor, images: Tensor) -> Tensor:
        """(B, C) for images (B, K, H, W) at theta (P,); differentiable in both."""
        with _training_mode(self.model):
            return functional_call(self.model, self._state(theta), (images,))

    def features(self, theta: Tensor, images: Tensor) -> Tensor:
        """The classifier's input (B, F) for images (B, K, H, W); differentiable in both.

        Raises ``TypeError`` if the module returns anything but the output of its classifier.
        """
        reached: list[tuple[Tensor, Tensor]] = []

        def catch(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            reached.append((inputs[0], output))

        handle = self._classifier.register_forward_hook(catch)
        try:
            returned = self.logits(theta, images)
        finally:
            handle.remove()
        if len(reached) != 1 or reached[0][1] is not returned:
            raise TypeError(
                f"{type(self.model).__name__} must return the output of its `classifier`, called once"
            )
        return reached[0][0]

    def head(self, theta_c: Tensor, features: Tensor) -> Tensor:
        """Logits (B, C) from features (B, F) and theta_c (Pc,); differentiable in both."""
        parameters = self._views(theta_c, self._head, "classifier.")
        with _training_mode(self._classifier):
            return functional_call(self._classifier, parameters, (features,))

    def head_weight(self, theta_c: Tensor) -> Tensor:
        """A linear classifier's weight (C, F), a view of theta_c (Pc,)."""
        return self._views(theta_c, self._head, "classifier.")["weight"]

    def head_parameters(self, theta_c: Tensor) -> tuple[Tensor, Tensor]:
        """A linear classifier's weight (C, F) and bias (C,), views of theta_c (Pc,)."""
        views = self._views(theta_c, self._head, "classifier.")
        return views["weight"], views["bias"]

    def _state(self, theta: Tensor) -> dict[str, Tensor]:
        # Batch norm updates its running averages in place, so it gets copies.
        buffers = {name: buffer.detach().clone() for name, buffer in self.model.named_buffers()}
        return self.views(theta) | buffers

    def _views(
        self, vector: Tensor, parameters: tuple[Parameter, ...], prefix: str = ""
    ) -> dict[str, Tensor]:
        pieces = vector.split([p.size for p in parameters])
        return {
            p.name.removeprefix(prefix): piece.view(p.shape) for p, piece in zip(parameters, pieces)
        }


def _in_classifier(name: str) -> bool:
    return name.startswith("classifier.")


@contextmanager
def _training_mode(model: nn.Module) -> Iterator[None]:
    """Training mode for the length of the block; each submodule then gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
