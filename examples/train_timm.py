"""Train a timm model on an exported set; this script does not need ltdd-ray.

ltdd-ray export runs/demo --to npz
python examples/train_timm.py runs/demo/distilled/npz/distilled.npz --model resnet18
"""

import argparse

import numpy as np
import timm
import torch
from torch.nn.functional import cross_entropy

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("file", help="distilled.npz of `ltdd-ray export RUN --to npz`")
parser.add_argument("--model", default="resnet18", help="a model of timm (default resnet18)")
parser.add_argument("--epochs", type=int, default=300)
parser.add_argument("--save", default="model.pt", help="where the weights go (default model.pt)")
options = parser.parse_args()

torch.manual_seed(0)
arrays = np.load(options.file)
pixels = arrays["train_images"].reshape(*arrays["train_images"].shape[:3], -1)  # (M, H, W, 1 or 3)
images = torch.tensor((pixels / 255 - arrays["mean"]) / arrays["std"], dtype=torch.float32).permute(
    0, 3, 1, 2
)
soft_labels = torch.tensor(arrays["soft_labels"])

network = timm.create_model(
    options.model, num_classes=soft_labels.shape[1], in_chans=images.shape[1]
)
optimiser = torch.optim.SGD(
    network.parameters(), lr=float(arrays["learning_rate"]), momentum=0.9, weight_decay=5e-4
)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.epochs)
for _ in range(options.epochs):
    for index in torch.randperm(len(images)).split(128):
        loss = cross_entropy(network(images[index]), soft_labels[index])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    schedule.step()
torch.save(network.state_dict(), options.save)
print(f"trained on {len(images)} images, loss {loss.item():.3f}; weights in {options.save}")
