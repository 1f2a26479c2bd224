"""Distribution matching (DM; Zhao & Bilen, WACV 2023): equal mean embeddings per class.

    l = sum_k || mean_i f(A_k(x_ki)) - mean_j f(A_k(r_kj)) ||^2

f is the backbone of a network initialised anew for every update. A_k is one draw of DSA for both
sides of class k. r_kj is a batch of real images, of equal size for every class, so a long tail
weighs as much as the head. It is drawn at random, or representative of the class as in DREAM
(:mod:`~ltdd_ray.distill.distribution.representative`). Characteristic functions may stand for the
means (:mod:`~ltdd_ray.distill.distribution.distances`). Labels are hard and not learned. Networks
see pictures: with f x f pictures per image, x are the decoded ones.

M synthetic images, P pictures, C classes, N training images, R real images per class; B batch,
F features, K x H x W image shape.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.autograd import grad
from torch.nn.functional import cross_entropy, one_hot
from torch.optim import SGD, Optimizer

from ltdd_ray.common.errors import NonFiniteLossError, UserError
from ltdd_ray.common.seeding import derive_seed, generator
from ltdd_ray.config import RunConfig
from ltdd_ray.data.budget import class_budget, picture_budget, repeated
from ltdd_ray.data.prepare import PreparedData, model_space
from ltdd_ray.distill.distribution.distances import (
    Distance,
    characteristic_distance,
    class_means,
    mean_distance,
)
from ltdd_ray.distill.distribution.embedding import Embedding, embed
from ltdd_ray.distill.distribution.representative import choose_representatives
from ltdd_ray.distill.formation import decode, encode, require_cells
from ltdd_ray.distill.initial import take_images
from ltdd_ray.distill.rounding import round_images
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.networks import Network, build_network


class DistributionMatching(nn.Module):
    """The images x (M, K, H, W) of ``classes`` (M,), and one update of them.

    The complete state is that of the module and of its optimiser.
    The other engines override its methods.
    """

    classes: Tensor
    chosen: Tensor  # (C, R), the representative images, which later updates keep

    def __init__(self, config: RunConfig, data: PreparedData, device: torch.device) -> None:
        """Raises ``UserError`` where mosaics do not fit the image, or weights not the classes."""
        super().__init__()
        self.config, self.shape = config, data.train.image_shape
        self.num_classes, self.normalisation = data.train.num_classes, data.normalisation.to(device)
        require_cells(self.shape, config.distill.pictures_per_side)
        _require_alpha(config, self.num_classes)
        self.augment = Augmentation(config.augmentation)
        self.real, self.labels = model_space(data.train, data.normalisation, device)
        self.members = [
            torch.nonzero(self.labels == k)[:, 0].cpu() for k in range(self.num_classes)
        ]
        self.prepare(data)
        counts = data.train.class_counts.tolist()
        self.images = nn.Parameter(self.initial(picture_budget(config.distill, counts)))
        budget = torch.tensor(class_budget(config.distill, counts), device=device)
        classes = torch.arange(self.num_classes, device=device)
        self.register_buffer("classes", classes.repeat_interleave(budget))
        if config.distill.distribution.real_images == "representative":
            size = (self.num_classes, config.distill.distribution.real_batch)
            self.register_buffer("chosen", torch.zeros(size, dtype=torch.int64, device=device))

    def prepare(self, data: PreparedData) -> None:
        """Nothing; RLDD reads its networks here, before it chooses the initial images."""

    @property
    def picture_classes(self) -> Tensor:
        """(P,)"""
        return self.classes.repeat_interleave(self.config.distill.pictures_per_image)

    def initial(self, wanted: Sequence[int]) -> Tensor:
        """Images (M, K, H, W) of ``wanted`` (C,) random real ones; repeats are augmented."""
        draw = generator(self.config.seed, "distribution-initial")
        index = torch.cat(draw_members(self.members, wanted, draw)).to(self.real.device)
        repeat = torch.cat(
            [torch.arange(count) >= len(own) for count, own in zip(wanted, self.members)]
        )
        chosen = take_images(self.real, index, repeat, self.augment, self.config.seed)
        return encode(chosen, self.config.distill.pictures_per_side)

    def describe_initial(self, data: PreparedData) -> list[str]:
        """A sentence for each class that has fewer real images than it starts from."""
        counts = data.train.class_counts.tolist()
        budget = picture_budget(self.config.distill, counts)
        return [
            f"class {name}: {count} real images for {wanted} initial ones; {wanted - count} "
            "augmented repeats fill it"
            for name, count, wanted in zip(data.train.class_names, counts, budget)
            if count < wanted
        ]

    def pictures(self) -> Tensor:
        """What networks see, (P, K, H, W); differentiable in the images.

        With `distill.bits` mosaics are rounded before they are decoded.
        """
        stored = self.images
        if self.config.distill.bits:
            stored = round_images(stored, self.normalisation)
        return decode(stored, self.config.distill.pictures_per_side)

    def step(self, optimiser: Optimizer, update: int) -> dict[str, float]:
        """Make one update and return its losses, as means over classes.

        Raises ``NonFiniteLossError`` before a loss can spoil the set.
        """
        loss, metrics = self.update_loss(optimiser, update)
        if not torch.isfinite(loss):
            raise NonFiniteLossError(
                f"update {update + 1}: the loss is {float(loss.detach())}; lower "
                "distill.distribution.lr_image"
            )
        (self.images.grad,) = grad(loss, self.images)
        optimiser.step()
        optimiser.zero_grad()
        self.between_updates(optimiser, update)
        sums = {"loss/total": loss, **metrics}
        return {name: float(value.detach()) / self.num_classes for name, value in sums.items()}

    def update_loss(self, optimiser: Optimizer, update: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss () of an update and its terms, as sums over classes."""
        network = self.network(optimiser, update)
        self.choose_real(network, update)
        return self.loss(network, *self.batches(update), update)

    def batches(self, update: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All pictures and ``real_batch`` real images per class, each followed by its classes.

        The pictures and the real images of a class are augmented alike.
        """
        seed, index = self.config.seed, self.real_index(update)
        pictures, classes = self.pictures(), self.picture_classes
        synthetic, real = [], []
        for k, chosen in enumerate(index):
            for images, into in ((pictures[classes == k], synthetic), (self.real[chosen], real)):
                draw = generator(seed, "distribution-augment", update, k)  # the same for both
                into.append(self.augment(images, draw, siamese=True))
        return torch.cat(synthetic), classes, torch.cat(real), self.labels[index.flatten()]

    def real_index(self, update: int) -> Tensor:
        """The real images of an update (C, R)."""
        settings = self.config.distill.distribution
        if settings.real_images == "representative":
            return self.chosen
        draw = generator(self.config.seed, "distribution-real", update)
        return draw_balanced(self.members, settings.real_batch, draw).to(self.real.device)

    def choose_real(self, network: Network, update: int) -> None:
        """Where it is due, choose the real images of this and later updates."""
        settings = self.config.distill.distribution
        if settings.real_images == "representative" and update % settings.choose_every == 0:
            seed, size = (
                derive_seed(self.config.seed, "representative", update),
                settings.real_batch,
            )
            self.chosen = choose_representatives(network, self.real, self.members, size, seed)

    def optimiser(self) -> Optimizer:
        settings = self.config.distill.distribution
        momentum = settings.momentum_image
        return SGD([{"params": [self.images], "lr": settings.lr_image, "momentum": momentum}])

    def network(self, optimiser: Optimizer, update: int) -> Network:
        """The network to embed with."""
        return self.fresh_network(update)

    def loss(
        self,
        network: Network,
        synthetic: Tensor,
        classes: Tensor,
        real: Tensor,
        real_classes: Tensor,
        update: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum over classes (), and its terms under the names of the metrics log."""
        with torch.no_grad():
            distance = self.distance(self.embed(network, real).compared, real_classes, update)
        return distance(self.embed(network, synthetic).compared, classes), {}

    def embed(self, network: Network, images: Tensor) -> Embedding:
        """What the config compares of ``images`` (B, K, H, W)."""
        return embed(network, images, self.config.distill.distribution.layers)

    def distance(self, real: Tensor, real_classes: Tensor, update: int) -> Distance:
        """The distance from the embeddings ``real`` (C R, F) that the config asks for."""
        settings = self.config.distill.distribution
        if settings.distance == "mean":
            return mean_distance(real, real_classes, self.num_classes)
        return characteristic_distance(
            real,
            real_classes,
            self.num_classes,
            frequencies=settings.frequencies,
            alpha=settings.alpha,
            draw=generator(self.config.seed, "distribution-frequencies", update),
        )

    def soft_labels(self) -> Tensor:
        """(P, C), the label of each picture as it is stored."""
        return one_hot(self.picture_classes, self.num_classes).float()

    def between_updates(self, optimiser: Optimizer, update: int) -> None:
        """Nothing; DC and IDM train their networks here."""

    def fresh_network(self, number: int) -> Network:
        seed = derive_seed(self.config.seed, "distribution-network", number)
        network = build_network(self.config.model, self.shape, self.num_classes, seed)
        return network.to(self.real.device)


def _require_alpha(config: RunConfig, num_classes: int) -> None:
    alpha = config.distill.distribution.alpha
    if isinstance(alpha, tuple) and len(alpha) != num_classes:
        raise UserError(
            f"distill.distribution.alpha has {len(alpha)} numbers, but the data has {num_classes} "
            "classes; give one number, or one for each class"
        )


def class_aware_loss(
    network: Network,
    pictures: Embedding,
    classes: Tensor,
    distance: Distance,
    num_classes: int,
    weight: Tensor | float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """``distance`` plus ``weight`` times the cross-entropy of the pictures under ``network``.

    Both are sums over classes (). Returns the loss, and its terms under the names of the log.
    ``pictures`` are those of ``network``, and of ``classes`` (B,).
    """
    far = distance(pictures.compared, classes)
    entropies = cross_entropy(network.classifier(pictures.last), classes, reduction="none")
    entropy = class_means(entropies[:, None], classes, num_classes).sum()
    return far + weight * entropy, {"loss/distance": far, "loss/class": entropy}


def draw_balanced(members: Sequence[Tensor], per_class: int, draw: Generator) -> Tensor:
    """(C, ``per_class``) indices, row k as :func:`draw_members` draws them."""
    return torch.stack(draw_members(members, [per_class] * len(members), draw))


def draw_members(members: Sequence[Tensor], wanted: Sequence[int], draw: Generator) -> list[Tensor]:
    """``wanted[k]`` indices from ``members[k]`` (n_k,), in random order, for each class.

    No index repeats before all of its class are drawn.
    """
    rows = []
    for of_class, count in zip(members, wanted, strict=True):
        rows.append(repeated(of_class[torch.randperm(len(of_class), generator=draw)], count))
    return rows
