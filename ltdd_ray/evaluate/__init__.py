"""Networks trained from scratch on a set of images, and what is measured with them.

The public function ``ltdd_ray.evaluate(distilled, model, test_images, test_labels)`` has the name
of this room. The module is callable, so both work:
:func:`ltdd_ray.evaluate.any_network.evaluate` is what a call does.
"""

import sys
from inspect import signature
from types import ModuleType

from ltdd_ray.evaluate.any_network import evaluate


class _CallableModule(ModuleType):
    __call__ = staticmethod(evaluate)
    __signature__ = signature(evaluate)


sys.modules[__name__].__class__ = _CallableModule
