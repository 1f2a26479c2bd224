"""The joint objective of one segment: lambda_rep l_backbone(representation expert) + lambda_cls l_classifier(classifier expert)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ltdd_ray.augment import Augmentation
from ltdd_ray.config import ClassifierPhase, RepresentationPhase, RunConfig
from ltdd_ray.distill.matching import Loss, Scope, match
from ltdd_ray.distill.schedule import draw_segment
from ltdd_ray.distill.synthetic import Gradients, SyntheticSet
from ltdd_ray.errors import NonFiniteLossError
from ltdd_ray.losses import DamLoss, soft_cross_entropy
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.store import Stage, TrajectoryStore


@dataclass(frozen=True)
class Phase:
    """One of the two terms of the objective."""

    name: Stage
    weight: float
    settings: RepresentationPhase | ClassifierPhase
    scope: Scope
    loss: Loss


def phases(config: RunConfig, prior: Tensor) -> list[Phase]:
    """The terms with a weight above zero, for class prior s (C,)."""
    distill, dam = config.distill, config.distill.representation.dam
    dam_loss = DamLoss.from_prior(prior, dam.lambda_prior, dam.class_weights, dam.frequency_floor)
    terms = [
        Phase("representation", distill.lambda_rep, distill.representation, distill.representation.scope, dam_loss),
        Phase("classifier", distill.lambda_cls, distill.classifier, "classifier", soft_cross_entropy),
    ]
    return [term for term in terms if term.weight > 0]


class Objective:
    """Evaluates segments against a trajectory store; holds no state between them."""

    def __init__(self, config: RunConfig, flat: FlatModel, store: TrajectoryStore, prior: Tensor) -> None:
        self._config, self._flat, self._store = config, flat, store
        self._augment = Augmentation(config.augmentation)
        self._phases = phases(config, prior)

    def add_segment(self, synthetic: SyntheticSet, gradients: Gradients, update: int, segment: int) -> dict[str, Tensor]:
        """Add one segment's gradients, each phase by its weight over the update's segments; returns loss () per phase.

        Raises ``NonFiniteLossError`` naming phase, expert and epoch; ``gradients`` is then not to be used.
        """
        config, losses = self._config, {}
        for phase in self._phases:
            settings = phase.settings
            draw = draw_segment(settings.start_epochs, config.experts.count, config.seed, phase.name, update, segment)
            start, target = self._segment(
                phase.name, draw.expert, draw.start_epoch, settings.expert_epochs, synthetic.images.device
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
            )
            numbers = (result.loss, result.images_grad, result.labels_grad, result.lr_grad)
            if not all(bool(torch.isfinite(n).all()) for n in numbers):
                raise NonFiniteLossError(
                    f"update {update}: the {phase.name} phase is not finite (loss {float(result.loss)}, expert {draw.expert}, "
                    f"start epoch {draw.start_epoch}, inner rate {float(synthetic.syn_lr):.3g}); lower distill.lr_image or syn_lr"
                )
            gradients.add(result, phase.weight / config.distill.segments_per_update, synthetic.syn_lr)
            losses[phase.name] = result.loss
        return losses

    def _segment(self, stage: Stage, expert: int, start: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """theta_e and theta_{e + length} (P,) of an expert's stage, float32 on ``device``."""
        segment = self._store.segment(expert, stage, start, start + length)
        ends = (
            (segment.start_backbone, segment.start_classifier),
            (segment.target_backbone, segment.target_classifier),
        )
        start_theta, target_theta = (torch.cat(parts).to(device, torch.float32) for parts in ends)
        return start_theta, target_theta
