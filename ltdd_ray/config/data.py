"""Where images come from, and how their class distribution is cut."""

import re
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ltdd_ray.common.registry import Registry
from ltdd_ray.config.section import NamingSection, as_path

SOURCES = Registry[Callable[..., Any]](
    "source",
    (
        *("digits", "cifar10", "cifar100", "tiny_imagenet", "imagenet_lt"),
        *("parquet", "imagefolder", "npz"),
    ),
)


class DataConfig(NamingSection):
    """Where images come from, and how their class distribution is cut."""

    registry: ClassVar[Registry[Any]] = SOURCES
    naming_key: ClassVar[str] = "source"

    source: str = Field(
        description="Kind of data: a known data set (digits, cifar10, cifar100, tiny_imagenet, "
        "imagenet_lt), images of your own as a folder per class (imagefolder), as arrays (npz) or "
        "as Hugging Face files (parquet), or a registered source.",
    )
    name: str | None = Field(
        default=None,
        description="Name of the data in results, and the key to published numbers; null for the "
        "source's name.",
    )
    path: str | None = Field(
        default=None,
        description="Folder, file or URI of the images: one with train and test inside, or the "
        "training part alone.",
    )
    test_path: str | None = Field(
        default=None, description="Folder, file or URI of the test images, if not inside `path`."
    )
    train_list: str | None = Field(
        default=None,
        description="File with a line `relative/path label` for each training image (source "
        "imagenet_lt).",
    )
    test_list: str | None = Field(
        default=None, description="The same as `train_list`, for the test images."
    )
    cache: str | None = Field(
        default=None,
        description="Folder for the decoded images of imagenet_lt. All nodes must see it, and only "
        "one run at a time may fill it.",
    )
    test_fraction: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of each class held out as a test set; needed if the source has none.",
    )
    validation_fraction: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of each training class held out for tuning; 0 trains on everything. "
        "Measure on it with `evaluate.split: validation`.",
    )
    labelled_fraction: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of the training images, drawn at random, that keep their labels; only "
        "these are trained on. Null for all. Simulates data that is mostly unlabelled.",
    )
    unlabelled: str | None = Field(
        default=None,
        description="Folder of images without classes, subfolders included. Only `class_counts: "
        "estimate` uses them.",
    )
    class_counts: Literal["known", "estimate"] = Field(
        default="known",
        description="Class counts that enter the matching loss. `known`: those of the training "
        "images. `estimate`: those of all images, labelled or not, estimated from pixels.",
    )
    download: bool = Field(default=False, description="Let torchvision download CIFAR into `path`.")
    imbalance_factor: float | None = Field(
        default=None,
        ge=1,
        description="Largest class over smallest class, n_max / n_min, of an exponential profile "
        "that the training images are cut to; null keeps the natural counts.",
    )
    largest_class: int | None = Field(
        default=None,
        ge=1,
        description="Images of the profile's largest class, n_max. A class with fewer images than "
        "its n_k then gives all it has. Null takes the source's largest class, and a class with "
        "fewer images than its n_k is an error.",
    )
    selection: Literal["random", "first"] = Field(
        default="random",
        description="Images of a class that the profile keeps: a fixed random choice, or the "
        "first ones in file order.",
    )
    image_size: int | None = Field(
        default=None,
        ge=8,
        description="Height and width, in pixels, that images are resized to; null keeps their "
        "own size.",
    )
    background: str = Field(
        default="white",
        description="Colour under transparent pixels: `white`, `black`, or `#rrggbb`. Drawings "
        "that exist in the alpha channel alone need one that differs from their ink.",
    )
    normalisation: Literal["standard", "zca", "zca_raw"] = Field(
        default="zca",
        description="`standard`: zero mean and unit deviation per channel. `zca_raw`: ZCA "
        "whitening of pixels in 0..1, as published for CIFAR-10. `zca`: the same after "
        "standardising per channel, as published for CIFAR-100.",
    )

    @field_validator("source")
    @classmethod
    def _known(cls, source: str) -> str:
        return SOURCES.check(source)

    @field_validator("path", "test_path", "train_list", "test_list", "cache", "unlabelled")
    @classmethod
    def _home(cls, path: str | None) -> str | None:
        return as_path(path)

    @field_validator("background")
    @classmethod
    def _colour(cls, colour: str) -> str:
        if not re.fullmatch(r"white|black|#[0-9a-fA-F]{6}", colour):
            raise ValueError(f"{colour!r} is no colour; give white, black or #rrggbb")
        return colour

    @model_validator(mode="after")
    def _profile(self) -> "DataConfig":
        if self.largest_class is not None and self.imbalance_factor is None:
            raise ValueError(
                f"data.largest_class {self.largest_class} needs data.imbalance_factor; set both or "
                "none"
            )
        return self

    @model_validator(mode="after")
    def _labels(self) -> "DataConfig":
        if self.unlabelled is not None and self.labelled_fraction is not None:
            raise ValueError(
                "data.unlabelled and data.labelled_fraction are two origins of unlabelled images; "
                "set one of them"
            )
        if self.unlabelled is not None and self.class_counts == "known":
            raise ValueError(
                "data.unlabelled is of use to data.class_counts estimate alone; set both or none"
            )
        if (
            self.class_counts == "estimate"
            and self.unlabelled is None
            and self.labelled_fraction is None
        ):
            raise ValueError(
                "data.class_counts estimate needs unlabelled images; set data.unlabelled to a "
                "folder of them, or data.labelled_fraction, for example 0.2, to forget labels"
            )
        return self
