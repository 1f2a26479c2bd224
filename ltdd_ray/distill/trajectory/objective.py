"""The joint objective of one segment: lambda_rep l_backbone(representation expert) + lambda_cls l_classifier(classifier expert)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ltdd_ray.common.errors import NonFiniteLossError
from ltdd_ray.config import ClassifierPhase, RepresentationPhase, RunConfig
from ltdd_ray.distill.trajectory.matching import Loss, Scope, match
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
    """What one phase of one segment matches: theta_e and theta_{e + length} (P,) of an expert's stage, float32 on the CPU."""

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
    """Evaluates segments against a trajectory store; holds no state between them."""

    def __init__(
        self,
        config: RunConfig,
        flat: FlatModel,
        store: TrajectoryStore,
        prior: Tensor,
        shard: Shard,
    ) -> None:
        """``shard``: the part of every inner batch whose gradients this process adds."""
        self._config, self._flat, self._store, self._shard = config, flat, store, shard
        self._augment = Augmentation(config.augmentation)
        self._phases = phases(config, prior)

    def read(self, update: int, segment: int) -> list[Reading]:
        """The expert's ends of one segment, a reading per phase. Safe to call from another thread."""
        return [self._read(phase, update, segment) for phase in self._phases]

    def add_segment(
        self, synthetic: SyntheticSet, gradients: Gradients, update: int, readings: list[Reading]
    ) -> dict[str, Tensor]:
        """Add one segment's gradients, each phase by its weight over the update's segments.

        Returns, (): ``loss/PHASE`` and, from :attr:`Match.distances`, ``distance/PHASE/student``, ``expert`` and ``left``.

        Raises ``NonFiniteLossError`` naming phase, expert and epoch; ``gradients`` is then not to be used.
        """
        config, found = self._config, {}
        for reading in readings:
            phase, draw, settings = reading.phase, reading.draw, reading.phase.settings
            start, target = (
                theta.to(synthetic.images.device) for theta in (reading.start, reading.target)
            )
            result = match(
                self._flat,
                start,
                target,
                synthetic.images,
                synthetic.labels,
                synthetic.syn_lr,
                steps=settings.syn_steps,
                batch_size=settings.batch_size,
                scope=phase.scope,
                loss=phase.loss,
                augment=self._augment,
                seed=draw.seed,
                hypergradient=config.distill.hypergradient,
                micro_batch=config.distill.micro_batch,
                shard=self._shard,
            )
            numbers = (result.loss, result.images_grad, result.labels_grad, result.lr_grad)
            if not all(bool(torch.isfinite(n).all()) for n in numbers):
                raise NonFiniteLossError(
                    f"update {update}: the {phase.name} phase is not finite (loss {float(result.loss)}, expert {draw.expert}, "
                    f"start epoch {draw.start_epoch}, inner rate {float(synthetic.syn_lr):.3g}); lower distill.lr_image or syn_lr"
                )
            gradients.add(
                result, phase.weight / config.distill.segments_per_update, synthetic.syn_lr
            )
            found[f"loss/{phase.name}"] = result.loss
            found |= {
                f"distance/{phase.name}/{name}": length for name, length in result.distances.items()
            }
        return found

    def _read(self, phase: Phase, update: int, segment: int) -> Reading:
        settings = phase.settings
        draw = draw_segment(
            settings.start_epochs,
            self._config.experts.count,
            self._config.seed,
            phase.name,
            update,
            segment,
        )
        ends = self._store.segment(
            draw.expert, phase.name, draw.start_epoch, draw.start_epoch + settings.expert_epochs
        )
        start = torch.cat([ends.start_backbone, ends.start_classifier]).float()
        target = torch.cat([ends.target_backbone, ends.target_classifier]).float()
        return Reading(phase, draw, start, target)
