"""What convolutions compute in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from ltdd_ray.common.device import default_device

Precision = Literal["float32", "tf32", "bfloat16"]


@contextmanager
def computing_in(precision: Precision) -> Iterator[None]:
    """float32 as it is; ``tf32``, its products from ten bits, on a GPU; or ``bfloat16``, where also activations are kept in it.

    Products of matrices other than a network's convolutions, such as whitening, stay in float32.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, precision == "tf32"
    try:
        with torch.autocast(default_device().type, torch.bfloat16, enabled=precision == "bfloat16"):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
