"""Distribution matching (DM; Zhao & Bilen, WACV 2023): synthetic images whose mean embedding per class is that of real ones.

    l = sum_k || mean_i f(A_k(x_ki)) - mean_j f(A_k(r_kj)) ||^2

f is the backbone of a network initialised anew for every update, A_k one draw of DSA for both sides of class k, r_kj a batch
of real images of equal size for every class, so a long tail weighs as much as the head. Labels are hard and not learned.

M synthetic images, C classes, N training images, R real images per class; B batch, F features, K x H x W image shape.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.autograd import grad
from torch.optim import SGD

from ltdd_ray.common.errors import NonFiniteLossError
from ltdd_ray.common.seeding import derive_seed, generator
from ltdd_ray.config import RunConfig
from ltdd_ray.data.prepare import PreparedData, model_space
from ltdd_ray.distill.formation import decode, encode
from ltdd_ray.distill.trajectory.synthetic import initial_images
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.networks import Network, build_network


class DistributionMatching(nn.Module):
    """Images x (M, K, H, W) of ``classes`` (M,) and one update of them; the module's state and its optimiser's are all there is.

    :class:`~ltdd_ray.distill.distribution.idm.ImprovedDistributionMatching` overrides the last four methods.
    """

    classes: Tensor

    def __init__(self, config: RunConfig, data: PreparedData, device: torch.device) -> None:
        super().__init__()
        self.config, self.shape, self.num_classes = (
            config,
            data.train.image_shape,
            data.train.num_classes,
        )
        self.augment = Augmentation(config.augmentation)
        self.real, self.labels = model_space(data.train, data.normalisation, device)
        self.members = [
            torch.nonzero(self.labels == k)[:, 0].cpu() for k in range(self.num_classes)
        ]
        ipc = config.distill.ipc
        assert ipc is not None  # the config refuses a budget for this engine
        self.images = nn.Parameter(self.initial(ipc * config.distill.pictures_per_image))
        self.register_buffer(
            "classes", torch.arange(self.num_classes, device=device).repeat_interleave(ipc)
        )

    def initial(self, per_class: int) -> Tensor:
        """Images (M, K, H, W) that show ``per_class`` random real ones of each class, repeats being augmented."""
        index = draw_balanced(
            self.members, per_class, generator(self.config.seed, "distribution-initial")
        ).flatten()
        repeat = torch.cat([torch.arange(per_class) >= len(members) for members in self.members])
        chosen = initial_images(
            self.real, index.to(self.real.device), repeat, self.augment, self.config.seed
        )
        return encode(chosen, self.config.distill.pictures_per_side)

    def pictures(self) -> tuple[Tensor, Tensor]:
        """What networks get to see of the images, (M f^2, K, H, W), and its classes (M f^2,); differentiable."""
        distill = self.config.distill
        return decode(self.images, distill.pictures_per_side), self.classes.repeat_interleave(
            distill.pictures_per_image
        )

    def step(self, optimiser: SGD, update: int) -> dict[str, float]:
        """One update; returns its losses, means over classes. Raises ``NonFiniteLossError`` before a loss can spoil the set."""
        network = self.network(optimiser, update)
        loss, metrics = self.loss(network, *self.batches(update))
        if not torch.isfinite(loss):
            raise NonFiniteLossError(
                f"update {update + 1}: the loss is {float(loss.detach())}; lower distill.distribution.lr_image"
            )
        (self.images.grad,) = grad(loss, self.images)
        optimiser.step()
        optimiser.zero_grad()
        self.between_updates(optimiser, update)
        return {
            name: float(value.detach()) / self.num_classes
            for name, value in {"loss/total": loss, **metrics}.items()
        }

    def batches(self, update: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All pictures and ``real_batch`` real images per class, each with its classes, under one augmentation per class."""
        size, draw = (
            self.config.distill.distribution.real_batch,
            generator(self.config.seed, "distribution-real", update),
        )
        index = draw_balanced(self.members, size, draw).to(self.real.device)
        pictures, classes = self.pictures()
        synthetic, real = [], []
        for k, chosen in enumerate(index):
            for images, into in ((pictures[classes == k], synthetic), (self.real[chosen], real)):
                draw = generator(
                    self.config.seed, "distribution-augment", update, k
                )  # the same for both
                into.append(self.augment(images, draw, siamese=True))
        return torch.cat(synthetic), classes, torch.cat(real), self.labels[index.flatten()]

    def optimiser(self) -> SGD:
        settings = self.config.distill.distribution
        return SGD(
            [
                {
                    "params": [self.images],
                    "lr": settings.lr_image,
                    "momentum": settings.momentum_image,
                }
            ]
        )

    def network(self, optimiser: SGD, update: int) -> Network:
        """The network to embed with."""
        return self.fresh_network(update)

    def loss(
        self,
        network: Network,
        synthetic: Tensor,
        classes: Tensor,
        real: Tensor,
        real_classes: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum over classes, and what it consists of under the names that it is recorded by."""
        with torch.no_grad():
            target = class_means(network.backbone(real), real_classes, self.num_classes)
        return (
            class_means(network.backbone(synthetic), classes, self.num_classes) - target
        ).square().sum(), {}

    def between_updates(self, optimiser: SGD, update: int) -> None:
        """What happens beside the images."""

    def fresh_network(self, number: int) -> Network:
        seed = derive_seed(self.config.seed, "distribution-network", number)
        return build_network(self.config.model, self.shape, self.num_classes, seed).to(
            self.real.device
        )


def class_means(values: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """The mean of ``values`` (B, F) over the members of each class, (C, F); every class must have one."""
    sums = values.new_zeros(num_classes, values.shape[1]).index_add(0, classes, values)
    return sums / torch.bincount(classes, minlength=num_classes)[:, None]


def draw_balanced(members: Sequence[Tensor], per_class: int, draw: Generator) -> Tensor:
    """(C, ``per_class``) indices, row k from ``members[k]`` (n_k,) in random order; none repeats before all of them are drawn."""
    rows = []
    for of_class in members:
        order = of_class[torch.randperm(len(of_class), generator=draw)]
        rows.append(order.repeat(-(-per_class // len(order)))[:per_class])
    return torch.stack(rows)
