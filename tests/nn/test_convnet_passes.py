"""The ConvNet's passes find their parameters by name, and refuse a network that has others."""

import pytest
import torch
from torch import nn

from ltdd_ray.config import ModelConfig
from ltdd_ray.nn.convnet_passes import ConvNetPasses, Views
from ltdd_ray.nn.flat import FlatModel
from ltdd_ray.nn.losses import soft_cross_entropy
from ltdd_ray.nn.networks import Network, build_network

IMAGES, LABELS = torch.randn(2, 3, 8, 8), torch.randn(2, 4).softmax(-1)


def network() -> Network:
    return build_network(ModelConfig(width=6, depth=2), (3, 8, 8), 4, seed=0)


def test_every_view_is_the_parameter_of_that_name() -> None:
    model = network()
    flat = FlatModel(model)
    views = Views.of(flat, flat.initial())
    for k, layer in enumerate(views.layers):
        convolution, norm = model.backbone[2 * k], model.backbone[2 * k + 1]
        assert torch.equal(layer.weight, convolution.weight)
        assert torch.equal(layer.gamma, norm.weight) and torch.equal(layer.beta, norm.bias)
    assert len(views.layers) == 2
    assert torch.equal(views.head, model.classifier.weight)
    assert torch.equal(views.head_bias, model.classifier.bias)


def test_views_do_not_depend_on_the_order_of_parameters() -> None:
    """A norm whose bias is registered before its weight has equal shapes at swapped places."""
    model = network()
    norm = model.backbone[1]
    weight, bias = norm.weight, norm.bias
    del norm.weight, norm.bias
    norm.register_parameter("bias", bias)
    norm.register_parameter("weight", weight)
    flat = FlatModel(model)
    first = Views.of(flat, flat.initial()).layers[0]
    assert torch.equal(first.gamma, torch.ones(6)) and torch.equal(first.beta, torch.zeros(6))


@pytest.mark.parametrize("change", ["one more", "one less"])
def test_other_parameters_are_refused(change: str) -> None:
    model = network()
    if change == "one more":
        model.backbone.register_parameter("scale", nn.Parameter(torch.ones(())))
    else:
        model.classifier.bias = None
    flat = FlatModel(model)
    passes = ConvNetPasses(flat, soft_cross_entropy, None)
    with pytest.raises(TypeError, match=r"need the parameters backbone.0.weight, .*this network"):
        passes.gradient(flat.initial(), IMAGES, LABELS)
