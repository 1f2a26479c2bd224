"""Expert training as published: a DataLoader over PIL images and a test after every epoch.

N images, C classes. Transforms run on the CPU and draw from torch's global generator, which the
caller seeds.
"""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler
from torchvision import transforms

Transform = Callable[[Image.Image], Tensor]

NORMALISE = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
TEST_TRANSFORM = transforms.Compose([transforms.ToTensor(), NORMALISE])


def train_transform(image_size: int) -> Transform:
    return transforms.Compose(
        [
            transforms.RandomCrop(image_size, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            NORMALISE,
        ]
    )


class Images(Dataset):
    """uint8 images (N, H, W, 3) and labels (N,); each access transforms one image."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Transform) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def representation_stage(
    model: nn.Module,
    train: Images,
    test: Images,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> list[float]:
    """Train ``model`` in place with SGD; the test accuracy after every epoch."""
    optimiser = SGD(model.parameters(), lr, momentum, weight_decay=weight_decay)
    loader = DataLoader(train, batch_size, shuffle=True)
    accuracies = []
    for _ in range(epochs):
        train_epoch(model, loader, optimiser)
        accuracies.append(accuracy(model, test, batch_size))
    return accuracies


def classifier_stage(
    model: nn.Module, train: Images, test: Images, *, epochs: int, batch_size: int, lr: float
) -> list[float]:
    """Train only ``model.classifier``, in place, on draws with equally frequent classes.

    An epoch has C times the images of the largest class. MaxNorm, a product of ten rows per step,
    is left out, which favours this side.
    """
    model.requires_grad_(False)
    classifier = model.get_submodule("classifier").requires_grad_(True)
    counts = np.bincount(train.labels)
    sampler = WeightedRandomSampler(
        (1 / counts[train.labels]).tolist(), len(counts) * int(counts.max())
    )
    loader = DataLoader(train, batch_size, sampler=sampler)
    optimiser = SGD(classifier.parameters(), lr)
    accuracies = []
    for _ in range(epochs):
        train_epoch(model, loader, optimiser)
        accuracies.append(accuracy(model, test, batch_size))
    return accuracies


def train_epoch(model: nn.Module, loader: DataLoader, optimiser: SGD) -> None:
    device = next(model.parameters()).device
    model.train()
    for images, labels in loader:
        loss = cross_entropy(model(images.to(device)), labels.to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@torch.no_grad()
def accuracy(model: nn.Module, test: Images, batch_size: int) -> float:
    device = next(model.parameters()).device
    model.eval()
    right = 0
    for images, labels in DataLoader(test, batch_size):
        right += int((model(images.to(device)).argmax(1) == labels.to(device)).sum())
    return right / len(test)
