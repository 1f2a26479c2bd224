"""Published cells differ from the authors' files only where docs/reproducing.md says so."""

import re
from pathlib import Path

import pytest
import yaml

from ltdd_ray.config.loading import load_config

ROOT = Path(__file__).parent.parent
THEIRS = yaml.safe_load((ROOT / "tests" / "authors_values.yaml").read_text())
TABLE = (ROOT / "docs" / "reproducing.md").read_text()


def ours(cell: str) -> list[float]:
    """The values of ``cell`` in the order of the data file."""
    config = load_config(ROOT / "configs" / f"{cell}.yaml")
    distill, first, second = (
        config.distill,
        config.distill.representation,
        config.distill.classifier,
    )
    start = first.start_epochs
    growing = start.max if start.initial_max is None else start.initial_max
    assert (first.expert_epochs, second.expert_epochs, second.start_epochs.max) == (2, 2, 0)
    assert first.batch_size == second.batch_size
    sizes = [config.data.imbalance_factor, distill.ipc, first.syn_steps, second.syn_steps]
    rates = [first.batch_size, distill.lr_image, distill.lr_label]
    weights = [distill.lambda_rep, distill.lambda_cls]
    return [*sizes, *rates, *weights, start.min, growing + 1, start.max + 1, start.growth]


@pytest.mark.parametrize("cell", THEIRS)
def test_a_cell_has_the_authors_values_except_where_the_table_names_it(cell: str) -> None:
    row = re.search(rf"^\| {cell.split('/')[1]} \|.*$", TABLE, re.M)
    named = row is not None and cell.startswith("cifar10_lt/")
    assert (ours(cell) != THEIRS[cell]) == named


@pytest.mark.parametrize("data", ["cifar10_lt", "cifar100_lt", "tiny_imagenet_lt"])
def test_what_all_cells_share_is_the_authors(data: str) -> None:
    config = load_config(ROOT / "configs" / data / "if10_ipc10.yaml")
    stage, head, distill = config.experts.representation, config.experts.classifier, config.distill
    for one in (stage, head):
        shared = (one.sharpness, one.rho, one.alpha, one.adaptive, one.lr, one.momentum)
        assert shared == ("gsam", 0.01, 0.3, True, 0.01, 0.0) and one.batch_size == 256
    assert (stage.epochs, stage.weight_decay, head.epochs, head.weight_decay) == (100, 5e-3, 10, 0)
    assert head.max_norm is None and config.experts.count == 100
    random = data != "cifar10_lt"
    rule = ("random", "one_expert") if random else ("first_expert", "right_experts")
    assert (distill.initial_images, distill.initial_label_rule) == rule
    assert (distill.updates, distill.momentum_image, distill.momentum_label) == (10_000, 0.5, 0.9)
    wanted = {"cifar10_lt": "zca_raw", "cifar100_lt": "zca", "tiny_imagenet_lt": "zca_raw"}
    assert config.data.normalisation == wanted[data]
