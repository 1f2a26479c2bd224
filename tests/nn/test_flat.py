"""A module as a function of one vector: which mode it runs in, and what is left of the module afterwards."""

import pytest
import torch
from torch import Tensor, nn

from ltdd_ray.nn.flat import FlatModel


class WithBatchNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.classifier = nn.BatchNorm1d(3), nn.Linear(3, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.classifier(self.norm(inputs))


@pytest.mark.parametrize("training", [True, False])
def test_the_module_keeps_its_mode(training: bool) -> None:
    model = WithBatchNorm().train(training)
    model.norm.train(not training)  # the mode of each submodule counts
    flat = FlatModel(model)
    theta, inputs = flat.initial(), torch.randn(5, 3)
    flat.head(flat.split(theta)[1], flat.features(theta, inputs))
    flat.logits(theta, inputs)
    assert (model.training, model.norm.training) == (training, not training)


def test_a_module_in_evaluation_mode_is_computed_in_training_mode() -> None:
    model, inputs = WithBatchNorm(), torch.randn(5, 3)
    expected = model(inputs)  # normalised by the batch
    flat = FlatModel(model.eval())
    torch.testing.assert_close(flat.logits(flat.initial(), inputs), expected)
    assert not torch.allclose(model(inputs), expected)


def test_the_mode_is_restored_after_an_error() -> None:
    model = WithBatchNorm().eval()
    flat = FlatModel(model)
    with pytest.raises(RuntimeError):
        flat.logits(flat.initial(), torch.randn(5, 4))
    assert not model.training


def test_dropout_in_the_classifier_is_in_training_mode() -> None:
    model = WithBatchNorm()
    model.classifier = nn.Sequential(nn.Dropout(1.0), nn.Linear(3, 2, bias=False))
    flat = FlatModel(model.eval())
    assert not flat.head(flat.split(flat.initial())[1], torch.ones(4, 3)).any()
