"""Train a torchvision model with Lightning on a distilled set alone (pip install lightning).

python examples/train_lightning.py runs/demo --model resnet18 --save model.ckpt

`DistilledClassifier` holds all that a set asks of its training: soft labels, learning rate and
augmentation. It keeps the normalisation of the set, so `predict_step` takes pixels 0..255.
"""

import argparse

import lightning  # pyright: ignore[reportMissingImports]
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchvision import models

import ltdd_ray
from ltdd_ray.nn.augment import Augmentation


class DistilledClassifier(lightning.LightningModule):
    """A network of torchvision and how it is trained on ``distilled``.

    B batch, C classes, K x H x W image shape. Grey images become three equal channels.
    """

    def __init__(self, distilled: ltdd_ray.DistilledSet, model: str, epochs: int) -> None:
        super().__init__()
        self.network = models.get_model(model, num_classes=len(distilled.class_names))
        self.learning_rate, self.epochs = distilled.learning_rate, epochs
        self.normalisation = distilled.normalisation
        self.augment, self.draw = Augmentation(distilled.augmentation), torch.Generator()
        self.draw.manual_seed(0)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of normalised ``images`` (B, K, H, W)."""
        return self.network(images.expand(-1, 3, -1, -1))

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, soft_labels = batch
        loss = cross_entropy(self(self.augment(images, self.draw)), soft_labels)
        self.log("loss", loss, prog_bar=True)
        return loss

    def predict_step(self, pixels: Tensor, index: int) -> Tensor:
        """The class (B,) of each of ``pixels`` (B, K, H, W), 0..255."""
        return self(self.normalisation.to(pixels.device).apply(pixels)).argmax(1)

    def configure_optimizers(self) -> tuple[list, list]:
        optimiser = torch.optim.SGD(
            self.parameters(), lr=self.learning_rate, momentum=0.9, weight_decay=5e-4
        )
        return [optimiser], [torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.epochs)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="folder of a run, or a distilled.safetensors")
    parser.add_argument("--model", default="resnet18", help="a classification model of torchvision")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--save", default="model.ckpt", help="Lightning's checkpoint")
    options = parser.parse_args()

    lightning.seed_everything(0)
    distilled = ltdd_ray.load_distilled(options.run)
    classifier = DistilledClassifier(distilled, options.model, options.epochs)
    trainer = lightning.Trainer(
        max_epochs=options.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    # A batch of one image would leave batch norm nothing to normalise by.
    batches = torch.utils.data.DataLoader(
        distilled, batch_size=128, shuffle=True, drop_last=len(distilled) > 128
    )
    trainer.fit(classifier, batches)
    trainer.save_checkpoint(options.save)
    loss = trainer.callback_metrics["loss"]
    print(f"trained on {len(distilled)} images, loss {loss:.3f}; checkpoint in {options.save}")
