"""The joint objective of one segment.

l = lambda_rep l_backbone(representation expert) + lambda_cls l_classifier(classifier expert)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ltdd_ray.common.errors import NonFiniteLossError
from ltdd_ray.config import ClassifierPhase, RepresentationPhase, RunConfig
from ltdd_ray.distill.trajectory.matching import Loss, Match, Scope, match
from ltdd_ray.distill.trajectory.schedule import Draw, draw_segment
from ltdd_ray.distill.trajectory.shard import Shard
from ltdd_ray.distill.trajectory.synthetic import Gradients, SyntheticSet
from ltdd_ray.nn.augment import Augmentation
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.losses import DamLoss, soft_cross_entropy
from ltdd_ray.store import Stage, TrajectoryStore


@dataclass(frozen=True)
class Phase:
    """One of the two terms of the objective."""

    name: Stage
    weight: float
    settings: RepresentationPhase | ClassifierPhase
    scope: Scope
    loss: Loss


@dataclass(frozen=True)
class Reading:
    """What one phase of one segment matches.

    theta_e and theta_{e + length} (P,) of an expert's stage, float32 on the CPU.
    """

    phase: Phase
    draw: Draw
    start: Tensor
    target: Tensor


def phases(config: RunConfig, prior: Tensor) -> list[Phase]:
    """The terms with a weight above zero, for class prior s (C,)."""
    distill, dam = config.distill, config.distill.representation.dam
    dam_loss = DamLoss.from_prior(prior, dam.lambda_prior, dam.class_weights)
    terms = [
        Phase(
            "representation",
            distill.lambda_rep,
            distill.representation,
            distill.representation.scope,
            dam_loss,
        ),
        Phase(
            "classifier", distill.lambda_cls, distill.classifier, "classifier", soft_cross_entropy
        ),
    ]
    return [term for term in terms if term.weight > 0]


class Objective:
    """Evaluates segments against a trajectory store; keeps no state between them."""

    def __init__(
        self,
        config: RunConfig,
        flat: FlatModel,
        store: TrajectoryStore,
        prior: Tensor,
        shard: Shard,
    ) -> None:
        """``prior``: s (C,). ``shard``: this process's part of every inner batch."""
        self._config, self._flat, self._store, self._shard = config, flat, store, shard
        self._augment = Augmentation(config.augmentation)
        self._phases = phases(config, prior)

    def read(self, update: int, segment: int) -> list[Reading]:
        """Read one segment from the store, a reading per phase. Another thread may call it."""
        return [self._read(phase, update, segment) for phase in self._phases]

    def add_segment(
        self,
        synthetic: SyntheticSet,
        pictures: Tensor,
        gradients: Gradients,
        update: int,
        readings: list[Reading],
    ) -> dict[str, Tensor]:
        """Add the gradients of one segment to ``gradients``, each phase with its weight.

        Args:
            pictures: (P, K, H, W), the detached pictures of ``synthetic``. An update decodes them
                once for all of its segments.

        Returns scalars: ``loss/PHASE`` and the lengths of :attr:`Match.distances` as
        ``distance/PHASE/student``, ``expert`` and ``left``.

        Raises ``NonFiniteLossError`` naming phase, expert and epoch; ``gradients`` is then spoilt.
        """
        distill, found = self._config.distill, {}
        for reading in readings:
            phase, draw, settings = reading.phase, reading.draw, reading.phase.settings
            result = match(
                self._flat,
                reading.start.to(pictures.device),
                reading.target.to(pictures.device),
                pictures,
                synthetic.labels,
                synthetic.syn_lr,
                steps=settings.syn_steps,
                batch_size=settings.batch_size,
                scope=phase.scope,
                loss=phase.loss,
                augment=self._augment,
                seed=draw.seed,
                hypergradient=distill.hypergradient,
                micro_batch=distill.micro_batch,
                shard=self._shard,
            )
            _require_finite(result, f"update {update}: the {phase.name} phase", draw, synthetic)
            gradients.add(result, phase.weight / distill.segments_per_update, synthetic.syn_lr)
            found[f"loss/{phase.name}"] = result.loss
            for name, length in result.distances.items():
                found[f"distance/{phase.name}/{name}"] = length
        return found

    def _read(self, phase: Phase, update: int, segment: int) -> Reading:
        settings, config = phase.settings, self._config
        draw = draw_segment(
            settings.start_epochs, config.experts.count, config.seed, phase.name, update, segment
        )
        target_epoch = draw.start_epoch + settings.expert_epochs
        ends = self._store.segment(draw.expert, phase.name, draw.start_epoch, target_epoch)
        start = torch.cat([ends.start_backbone, ends.start_classifier]).float()
        target = torch.cat([ends.target_backbone, ends.target_classifier]).float()
        return Reading(phase, draw, start, target)


def _require_finite(match: Match, where: str, draw: Draw, synthetic: SyntheticSet) -> None:
    numbers = (match.loss, match.images_grad, match.labels_grad, match.lr_grad)
    if not all(bool(torch.isfinite(n).all()) for n in numbers):
        raise NonFiniteLossError(
            f"{where} is not finite (loss {float(match.loss)}, expert {draw.expert}, start epoch "
            f"{draw.start_epoch}, inner rate {float(synthetic.syn_lr):.3g}); lower "
            "distill.lr_image or syn_lr"
        )
