"""Checks of a manifest's content, for files whose checksum is right but whose values are not."""

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ltdd_ray.store.terms import ITEM_BYTES, METRICS, STAGES


def find_fault(tree: dict[str, Any]) -> str | None:
    """What is wrong with the values of a parsed manifest, in words; None for a sound one.

    Types, ranges and sizes are checked, and that the rows lie in the data file, in order and apart
    from each other. Whether the data file holds what the manifest says needs the file itself.
    """
    fault = _header_fault(tree) or _layout_fault(tree.get("layout"))
    return fault or _rows_fault(tree)


def _header_fault(tree: dict[str, Any]) -> str | None:
    for key in ("identity", "config_fingerprint", "dataset_fingerprint", "file"):
        if not isinstance(tree.get(key), str):
            return f"{key} is {_shown(tree, key)}, not a text"
    for key, least in (("expert", 0), ("bytes", 1), ("seed", None)):
        if not _whole(tree.get(key), least):
            return f"{key} is {_shown(tree, key)}, not a whole number it can have"
    for key, choices in (("stage", STAGES), ("dtype", tuple(ITEM_BYTES))):
        if tree.get(key) not in choices:
            return f"{key} is {_shown(tree, key)}, not one of {', '.join(choices)}"
    if not isinstance(tree.get("sha256"), str) or not re.fullmatch("[0-9a-f]{64}", tree["sha256"]):
        return f"sha256 is {_shown(tree, 'sha256')}, not 64 hexadecimal digits"
    counts = tree.get("class_counts")
    if not isinstance(counts, list) or not all(_whole(count, 0) for count in counts):
        return f"class_counts is {_shown(tree, 'class_counts')}, not a list of numbers of images"
    return None


def _layout_fault(layout: Any) -> str | None:
    if not isinstance(layout, dict) or not isinstance(layout.get("parameters"), list):
        return "the layout has no list of parameters"
    starts = [0]
    for parameter in layout["parameters"]:
        if not isinstance(parameter, dict) or not isinstance(parameter.get("name"), str):
            return "a parameter of the layout has no name"
        name, shape = parameter["name"], parameter.get("shape")
        if not isinstance(shape, list) or not all(_whole(size, 0) for size in shape):
            return f"the parameter {name} has the shape {_shown(parameter, 'shape')}"
        if parameter.get("offset") != starts[-1] or not _whole(parameter["offset"], 0):
            return (
                f"the parameter {name} starts at {_shown(parameter, 'offset')}, not at {starts[-1]}"
            )
        starts.append(starts[-1] + math.prod(shape))
    backbone = layout.get("backbone_size")
    if not _whole(backbone, 0) or backbone not in starts[:-1] or backbone == starts[-1]:
        return f"the backbone has {_shown(layout, 'backbone_size')} of {starts[-1]} elements"
    return None


def _rows_fault(tree: dict[str, Any]) -> str | None:
    rows, layout = tree.get("rows"), tree["layout"]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        return "there is not a single row"
    total = sum(math.prod(parameter["shape"]) for parameter in layout["parameters"])
    elements = {"classifier": total - layout["backbone_size"]}
    if tree["stage"] == "representation":
        elements["backbone"] = layout["backbone_size"]
    lengths = {name: count * ITEM_BYTES[tree["dtype"]] for name, count in elements.items()}
    fault = next(filter(None, (_row_fault(row, lengths) for row in rows)), None)
    if fault:
        return fault
    if not all(first["epoch"] < second["epoch"] for first, second in pairwise(rows)):
        return "the epochs of the rows do not increase"
    return _place_fault(rows, lengths, tree["bytes"])


def _row_fault(row: dict[str, Any], lengths: dict[str, int]) -> str | None:
    epoch, columns, metrics = (row.get(key) for key in ("epoch", "columns", "metrics"))
    if not _whole(epoch, 0):
        return f"a row has the epoch {_shown(row, 'epoch')}"
    if not isinstance(columns, dict) or columns.keys() != lengths.keys():
        return f"epoch {epoch} does not have the columns {', '.join(sorted(lengths))}"
    for name, column in columns.items():
        if not isinstance(column, dict) or column.keys() != {"offset", "crc32"}:
            return f"the {name} of epoch {epoch} does not have an offset and a crc32"
        if not _whole(column["crc32"], 0) or column["crc32"] >= 2**32:
            return f"the {name} of epoch {epoch} has the crc32 {_shown(column, 'crc32')}"
        if not _whole(column["offset"], 0):
            return f"the {name} of epoch {epoch} has the offset {_shown(column, 'offset')}"
    if not isinstance(metrics, dict) or not metrics.keys() <= set(METRICS):
        return f"the metrics of epoch {epoch} are not of {', '.join(METRICS)}"
    if not all(_finite(value) for value in metrics.values()):
        return f"a metric of epoch {epoch} is not a finite number"
    return None


def _place_fault(rows: Sequence[dict[str, Any]], lengths: dict[str, int], size: int) -> str | None:
    """Rows outside the file, out of order, or over one another."""
    end, before = 0, "the start of the file"
    for row in rows:
        for name, column in sorted(row["columns"].items(), key=lambda one: one[1]["offset"]):
            here = f"the {name} of epoch {row['epoch']}"
            if column["offset"] < end:
                return f"{here} starts at byte {column['offset']}, before the end of {before}"
            end, before = column["offset"] + lengths[name], here
    return None if end <= size else f"{before} ends at byte {end} of a file of {size} bytes"


def _whole(value: Any, least: int | None) -> bool:
    return (
        isinstance(value, int)
        and not isinstance(value, bool)
        and (-(2**63) if least is None else least) <= value < 2**63
    )


def _finite(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and math.isfinite(value)
    except (TypeError, OverflowError):
        return False


def _shown(tree: dict[str, Any], key: str) -> str:
    text = repr(tree[key]) if key in tree else "missing"
    return text if len(text) <= 60 else f"{text[:60]}..."
