"""Distribution matching by Adam at a falling rate."""

import math

from torch.optim import Adam, Optimizer

from ltdd_ray.distill.distribution.dm import DistributionMatching


class CosineAdam(DistributionMatching):
    """DM whose images are moved by Adam, whose steps do not depend on the scale of the loss.

    The rate falls along half a cosine.
    """

    def optimiser(self) -> Adam:
        return Adam([self.images], self.config.distill.distribution.lr_image)

    def step(self, optimiser: Optimizer, update: int) -> dict[str, float]:
        settings = self.config.distill.distribution
        share = (1 + math.cos(math.pi * update / settings.updates)) / 2
        optimiser.param_groups[0]["lr"] = settings.lr_image * share
        return super().step(optimiser, update)
