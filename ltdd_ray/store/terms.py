"""The words of the store's format: stages, dtypes and metrics."""

from typing import Literal, get_args

Stage = Literal["representation", "classifier"]
DType = Literal["float32", "float16"]
STAGES: tuple[Stage, ...] = get_args(Stage)
ITEM_BYTES: dict[DType, int] = {"float32": 4, "float16": 2}
METRICS = ("train_loss", "train_accuracy", "test_accuracy")
