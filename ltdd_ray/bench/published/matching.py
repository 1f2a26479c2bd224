"""Trajectory matching as published: unrolled (MTT), and in two passes (TESLA, and scripts from it).

    theta_{t+1} = theta_t - alpha g_t,   g_t = grad_theta CE(theta_t; A_t(x), softmax(y)),   t < T
    l = ||theta_T - theta*||_S^2 / ||theta_0 - theta*||_S^2

Shapes: M synthetic images, all of them in every step; images x (M, K, H, W), soft-label logits
y (M, C), theta (P,), alpha ().
MTT: Cazenavette et al., CVPR 2022. TESLA: Cui et al., ICML 2023.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import grad
from torch.nn.functional import cross_entropy

from ltdd_ray.bench.published.network import Student

Logits = Callable[[Tensor, Tensor], Tensor]
Augment = Callable[[Tensor, int], Tensor]  # images and step -> augmented images


class Segment(NamedTuple):
    """theta_0 and theta* (P,), and the synthetic set with its learning rate."""

    start: Tensor
    target: Tensor
    images: Tensor
    labels: Tensor
    lr: Tensor


class Gradients(NamedTuple):
    """Of the matching loss (): images (M, K, H, W), labels (M, C), lr ()."""

    loss: Tensor
    images: Tensor
    labels: Tensor
    lr: Tensor


def unrolled(
    logits: Logits, segment: Segment, *, steps: int, augment: Augment, matched: slice
) -> Gradients:
    """MTT: one graph through all ``steps``. ``matched`` is S as a part of theta."""
    start, target, *learned = segment
    theta, images, labels, lr = (tensor.detach().requires_grad_() for tensor in (start, *learned))
    for step in range(steps):
        theta = theta - lr * _inner_gradient(logits, theta, augment(images, step), labels)
    loss = (theta - target)[matched].square().sum() / (start - target)[matched].square().sum()
    return Gradients(loss.detach(), *grad(loss, (images, labels, lr)))


def two_pass(
    logits: Logits, segment: Segment, *, steps: int, augment: Augment, matched: slice
) -> Gradients:
    """TESLA: with G = sum_t g_t the loss is ||theta_0 - alpha G - theta*||_S^2 / scale, that is

        alpha^2 <G, G>_S + 2 alpha <G, theta* - theta_0>_S + const

    divided by scale. With theta_t held constant, g_t depends on x and y only, and each step adds
    the gradient of <g_t, 2 alpha^2 G + 2 alpha (theta* - theta_0)>_S / scale. The first pass sums
    G, the second repeats the steps. As published, the first pass records the graph of its
    gradients, which nothing uses.
    """
    start, target, images, labels, lr = segment
    images, labels = images.detach().requires_grad_(), labels.detach().requires_grad_()
    thetas, total = [start.detach()], torch.zeros_like(start)
    for step in range(steps):
        theta = thetas[-1].requires_grad_()
        gradient = _inner_gradient(logits, theta, augment(images, step), labels).detach()
        thetas.append(theta.detach() - lr * gradient)
        total += gradient

    gap = target - start
    scale = gap[matched].square().sum()
    pull = torch.zeros_like(start)
    pull[matched] = (2 * lr**2 * total + 2 * lr * gap)[matched] / scale
    images_grad, labels_grad = torch.zeros_like(images), torch.zeros_like(labels)
    for step in range(steps):
        gradient = _inner_gradient(logits, thetas[step], augment(images, step), labels)
        images_bar, labels_bar = grad(gradient @ pull, (images, labels))
        images_grad += images_bar
        labels_grad += labels_bar
    loss = (thetas[-1].detach() - target)[matched].square().sum() / scale
    return Gradients(loss, images_grad, labels_grad, (total @ pull) / lr)


def classifier_two_pass(
    student: Student, segment: Segment, *, steps: int, augment: Augment, backbone_size: int
) -> Gradients:
    """The classifier phase: :func:`two_pass` of theta_c behind the frozen backbone of ``start``."""
    backbone = segment.start[:backbone_size].detach()

    def logits(head: Tensor, images: Tensor) -> Tensor:
        return student(torch.cat([backbone, head]), images)

    heads = segment._replace(
        start=segment.start[backbone_size:], target=segment.target[backbone_size:]
    )
    return two_pass(logits, heads, steps=steps, augment=augment, matched=slice(None))


def _inner_gradient(logits: Logits, theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """g_t, the shape of theta, as a differentiable function of everything."""
    return grad(cross_entropy(logits(theta, images), labels.softmax(-1)), theta, create_graph=True)[
        0
    ]
