"""A network as a pure function of one parameter vector, theta in R^P = (theta_b backbone | theta_c classifier).

P parameters, Pb of them backbone, Pc classifier; B batch, F features, C classes.
"""

from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ltdd_ray.common.layout import Parameter, ParameterLayout


class FlatModel:
    """Views any ``nn.Module`` that has a ``classifier`` as a function of a vector; the module's own weights stay untouched.

    The module runs in training mode, batch norm on batch statistics: a trajectory holds parameters, no running averages.
    """

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(getattr(model, "classifier", None), nn.Module):
            raise TypeError(
                f"{type(model).__name__} has no module named `classifier`; matching needs one to tell it from the backbone"
            )
        self.model = model.train()
        named = dict(model.named_parameters())
        names = sorted(
            named, key=lambda name: name.startswith("classifier.")
        )  # stable: backbone first, each in module order
        sizes = [named[name].numel() for name in names]
        offsets = [0, *accumulate(sizes)]
        backbone = sum(
            size for name, size in zip(names, sizes) if not name.startswith("classifier.")
        )
        parameters = tuple(
            Parameter(name, tuple(named[name].shape), offset)
            for name, offset in zip(names, offsets)
        )
        self.layout = ParameterLayout(parameters, backbone)
        self._classifier: nn.Module = model.classifier  # pyright: ignore[reportAttributeAccessIssue]
        self._head = tuple(p for p in parameters if p.name.startswith("classifier."))

    def initial(self) -> Tensor:
        """The module's own weights as a new vector (P,)."""
        named = dict(self.model.named_parameters())
        return torch.cat([named[p.name].detach().flatten() for p in self.layout.parameters])

    def split(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Views (theta_b (Pb,), theta_c (Pc,)) of theta (P,)."""
        return theta[: self.layout.backbone_size], theta[self.layout.backbone_size :]

    def views(self, theta: Tensor) -> dict[str, Tensor]:
        """The parameters by name, each a view into theta (P,) in its own shape."""
        return self._views(theta, self.layout.parameters)

    def logits(self, theta: Tensor, images: Tensor) -> Tensor:
        """(B, C) for images (B, K, H, W) at theta (P,); differentiable in both."""
        return functional_call(self.model, self._state(theta), (images,))

    def features(self, theta: Tensor, images: Tensor) -> Tensor:
        """What reaches the classifier, (B, F), for images (B, K, H, W); differentiable in both.

        Raises ``TypeError`` if the module does more to the classifier's output than return it.
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
        return functional_call(
            self._classifier, self._views(theta_c, self._head, "classifier."), (features,)
        )

    def head_weight(self, theta_c: Tensor) -> Tensor:
        """The view (C, F) of theta_c (Pc,) that holds a linear classifier's rows."""
        return self._views(theta_c, self._head, "classifier.")["weight"]

    def head_parameters(self, theta_c: Tensor) -> tuple[Tensor, Tensor]:
        """The views (C, F) and (C,) of theta_c (Pc,) that hold a linear classifier's weight and bias."""
        views = self._views(theta_c, self._head, "classifier.")
        return views["weight"], views["bias"]

    def _state(self, theta: Tensor) -> dict[str, Tensor]:
        # Batch norm writes its running averages; hand it copies.
        buffers = {name: buffer.detach().clone() for name, buffer in self.model.named_buffers()}
        return self.views(theta) | buffers

    def _views(
        self, vector: Tensor, parameters: tuple[Parameter, ...], prefix: str = ""
    ) -> dict[str, Tensor]:
        pieces = vector.split([p.size for p in parameters])
        return {
            p.name.removeprefix(prefix): piece.view(p.shape) for p, piece in zip(parameters, pieces)
        }
