"""Uni-level distillation with unbiased recovery and relabelling (AAAI 2026; arXiv 2511.18858).

The paper calls it RLDD.

Five steps, each of which a setting switches off for an ablation:

1. An observer and teachers with batch norm, trained with a debiased loss: experts of a store, with
   `experts.norm: batch` and `experts.representation.criterion: debiased`.
2. Their batch-norm statistics are measured anew, with equal weight for every class: `recalibrate`.
3. Images start as crops of real ones, those that the teachers know best: `crops`.
4. Images recover the observer's statistics, of all classes together and of each class:

       l = mean_k [ w mean_i CE(A(x_ki), k) + v_c d(s_k(x), s_k) ] + v d(s(x), s)

   s is the mean and variance in front of each batch norm, d the sum over layers and both of the
   distance: `statistics_weight` v, `class_statistics_weight` v_c, `class_weight` w, `updates`.
5. The teachers label the pictures at the end: `distill.initial_labels`, `one_hot` without.

Deviations, where the text leaves it open or the rest of this project suggests it:

- Expert 0 is the observer, the others are teachers, whose mean logits count. `experts.count: 2` is
  as published; a single expert is both. They do not see the images during an evaluation.
- Statistics are exact moments of all real images without augmentation, batch norm by batch norm.
  Without step 2 images weigh alike, which is what running averages of a training estimate.
- A crop is a square of at least half the area. Its score is the log-probability of its class.
- All pictures make up one batch, unaugmented in d and augmented in the cross-entropy, as all
  engines augment. Adam's rate falls along half a cosine.
- Students learn by soft cross-entropy; `evaluate.ce_weight` and `mse_weight` are k1 and k2.

The letters are those of ``dm.py``.
"""

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.seeding import generator
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.distill.distribution.cosine_adam import CosineAdam
from ltdd_ray.distill.distribution.crops import choose_in_rounds, cut, draw_crops
from ltdd_ray.distill.distribution.distances import class_means
from ltdd_ray.distill.distribution.statistics import AT_ONCE, distances, forward, recalibrate
from ltdd_ray.distill.formation import as_pictures, encode
from ltdd_ray.experts.plan import expectation, expert_network
from ltdd_ray.nn.networks import Network
from ltdd_ray.store import TrajectoryStore


class UnilevelRecovery(CosineAdam):
    """The images and Adam's averages are the only state: networks come from the store."""

    _networks: list[Network]  # a plain list, so that a checkpoint does not hold them
    _statistics: list[Tensor]  # the observer's, (C, 2 F) per batch norm
    _weights: Tensor  # (C,), of the classes in the statistics of all of them

    def prepare(self, data: PreparedData) -> None:
        """Raises ``UserError`` where the store lacks an expert, or one has no statistics."""
        self._networks = self.trained_networks(data)
        self._require_statistics(self._networks[0])
        counts = torch.tensor([float(len(own)) for own in self.members])
        equal = self.config.distill.distribution.recovery.recalibrate
        self._weights = torch.full_like(counts, 1 / len(counts)) if equal else counts / counts.sum()
        statistics = [
            recalibrate(network, self.real, self.members, self._weights)
            for network in self._networks
        ]
        self._statistics = statistics[0]
        if not self._statistics:
            raise UserError(
                f"model.name {self.config.model.name} has no batch norm, whose statistics "
                "distill.engine rldd recovers; choose another model or engine"
            )

    def trained_networks(self, data: PreparedData) -> list[Network]:
        """The experts at their last epoch, in evaluation mode."""
        expected = expectation(self.config, data.train)
        store = TrajectoryStore.open(self.config.store_uri, expect=expected)
        stage, networks = self.config.distill.label_expert, []
        for expert in range(self.config.experts.count):
            flat = expert_network(self.config, data.train, expert)
            views = flat.views(store.theta(expert, stage).float())
            flat.model.load_state_dict(views, strict=False)  # no statistics are stored
            assert isinstance(flat.model, Network)
            networks.append(flat.model.to(self.real.device).eval().requires_grad_(False))
        return networks

    def _require_statistics(self, network: Network) -> None:
        """A registered network may have a batch norm that keeps none."""
        for name, layer in network.named_modules():
            if isinstance(layer, _BatchNorm) and layer.running_mean is None:
                raise UserError(
                    f"model.name {self.config.model.name}: {name} keeps no running statistics, "
                    "which distill.engine rldd sets; build it with track_running_stats=True, or "
                    "choose another engine"
                )

    @property
    def batch_norms(self) -> int:
        return len(self._statistics)

    @property
    def observer(self) -> Network:
        return self._networks[0]

    @property
    def teachers(self) -> list[Network]:
        return self._networks[1:] or self._networks

    def initial(self, wanted: Sequence[int]) -> Tensor:
        """Images (M, K, H, W) of the crops that the teachers know best, or of random real ones."""
        crops = self.config.distill.distribution.recovery.crops
        if not crops:
            return super().initial(wanted)
        side, chosen = self.config.distill.pictures_per_side, []
        for k, (own, count) in enumerate(zip(self.members, wanted)):
            draw = generator(self.config.seed, "rldd-crops", k)
            places = draw_crops(len(own), max(crops, ceil(count / len(own))), draw)
            image, crop = choose_in_rounds(self._score(own, places, k), count)
            images = self.real[own[image].to(self.real.device)]
            chosen.append(cut(images, places[image, crop]))
        return encode(torch.cat(chosen), side)

    @torch.no_grad()
    def _score(self, members: Tensor, places: Tensor, label: int) -> Tensor:
        """The log-probability (n, V) of class ``label`` for crops ``places`` (n, V, 3)."""
        side, scores = self.config.distill.pictures_per_side, []
        for index, crops in zip(members.split(AT_ONCE), places.split(AT_ONCE)):
            images = self.real[index.to(self.real.device)]
            columns = [as_pictures(cut(images, crop), side) for crop in crops.unbind(1)]
            found = [self.teacher_logits(column).log_softmax(1)[:, label] for column in columns]
            scores.append(torch.stack(found, 1).cpu())
        return torch.cat(scores)

    def describe_initial(self, data: PreparedData) -> list[str]:
        said = super().describe_initial(data)
        crops = self.config.distill.distribution.recovery.crops
        return [line.replace("augmented repeats", "more crops") for line in said] if crops else said

    def update_loss(self, optimiser: Optimizer, update: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss times C, as other engines have sums over classes, and its terms."""
        pictures, classes = self.pictures(), self.picture_classes
        settings = self.config.distill.distribution
        found = forward(self.observer, pictures)[1]
        together, by_class = distances([*found.values()], classes, self._statistics, self._weights)
        seen = self.augment(pictures, generator(self.config.seed, "distribution-augment", update))
        entropies = cross_entropy(self.observer(seen), classes, reduction="none")
        entropy = class_means(entropies[:, None], classes, self.num_classes).mean()
        recovery = settings.recovery
        loss = recovery.statistics_weight * together + recovery.class_statistics_weight * by_class
        terms = {"loss/distance": together, "loss/class_distance": by_class, "loss/class": entropy}
        loss = self.num_classes * (loss + settings.class_weight * entropy)
        return loss, {name: self.num_classes * term for name, term in terms.items()}

    def teacher_logits(self, pictures: Tensor) -> Tensor:
        """The mean (B, C) over the teachers."""
        return torch.stack([teacher(pictures) for teacher in self.teachers]).mean(0)

    @torch.no_grad()
    def soft_labels(self) -> Tensor:
        """(P, C), what the teachers think of the present pictures, or one-hot."""
        settings = self.config.distill
        if settings.initial_labels == "one_hot":
            return one_hot(self.picture_classes, self.num_classes).float()
        parts = self.pictures().split(AT_ONCE)
        logits = torch.cat([self.teacher_logits(part) for part in parts])
        return (logits / settings.label_temperature).softmax(-1)
