"""Train a torchvision model on a distilled set alone, and measure it on your own images.

python examples/train_torchvision.py runs/demo --model resnet18 --save resnet18.pt [--test FOLDER]
"""

import argparse

import torch
from torch.nn.functional import cross_entropy
from torchvision import datasets, models

import ltdd_ray
from ltdd_ray.nn.augment import Augmentation

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("run", help="folder of a run, or a distilled.safetensors")
parser.add_argument(
    "--model", default="resnet18", help="a classification model of torchvision (default resnet18)"
)
parser.add_argument("--epochs", type=int, default=300)
parser.add_argument("--save", default="model.pt", help="where the weights go (default model.pt)")
parser.add_argument("--test", help="folder with a folder of test images per class")
options = parser.parse_args()

torch.manual_seed(0)
distilled = ltdd_ray.load_distilled(options.run)
test = None
if options.test:
    test = datasets.ImageFolder(options.test, loader=lambda file: distilled.read(file)[0])
    if unknown := sorted({*test.classes} - {*distilled.class_names}):
        parser.error(
            f"{options.test}: the set has no class {unknown[0]!r}; "
            f"it has {', '.join(distilled.class_names)}"
        )
    # torchvision numbers the folders of the test images, which may lack classes of the set.
    labels_of = [distilled.class_names.index(name) for name in test.classes]
    test.target_transform = lambda label: labels_of[label]
batches = torch.utils.data.DataLoader(
    distilled, batch_size=128, shuffle=True, drop_last=len(distilled) > 128
)
network = models.get_model(options.model, num_classes=len(distilled.class_names))
optimiser = torch.optim.SGD(
    network.parameters(), lr=distilled.learning_rate, momentum=0.9, weight_decay=5e-4
)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.epochs)
augment, draw = Augmentation(distilled.augmentation), torch.Generator().manual_seed(0)
for _ in range(options.epochs):
    for images, soft_labels in batches:
        # A grey image becomes three equal channels.
        logits = network(augment(images, draw).expand(-1, 3, -1, -1))
        loss = cross_entropy(logits, soft_labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    schedule.step()
torch.save(network.state_dict(), options.save)
print(f"trained on {len(distilled)} images, loss {loss.item():.3f}; weights in {options.save}")

if test:
    network.eval()
    with torch.no_grad():
        right = [
            network(distilled.normalisation.apply(pixels).expand(-1, 3, -1, -1)).argmax(1) == labels
            for pixels, labels in torch.utils.data.DataLoader(test, batch_size=256)
        ]
    found = torch.cat(right).double()
    labels = torch.tensor([labels_of[label] for label in test.targets])
    balanced = torch.stack([found[labels == k].mean() for k in labels.unique()]).mean()
    print(
        f"on the {len(test)} images of {options.test}: balanced accuracy (mean over "
        f"{len(labels.unique())} classes) {100 * balanced:.1f} %, accuracy over images "
        f"{100 * found.mean():.1f} %"
    )
