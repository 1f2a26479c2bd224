"""What a search varies: from a trial's values to its config, and from (seed, number) to its values."""

from typing import Any

import torch

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.seeding import generator
from ltdd_ray.config import Dimension, RunConfig, SearchConfig
from ltdd_ray.config.loading import parse_config

Values = dict[str, Any]  # one value per key of search.space, in its order


def check_search(config: RunConfig) -> None:
    """Raise ``UserError`` for a search that could not run to its end: unknown keys, ranges too wide, no report."""
    search = config.search
    if config.distill.engine != "matching":
        raise UserError(
            f"distill.engine {config.distill.engine} has no experts to search with; set distill.engine to matching"
        )
    for key, dimension in search.space.items():
        if not key.startswith("distill."):
            raise UserError(
                f"search.space: `{key}` cannot be varied, as all trials share one set of experts; use keys of `distill`"
            )
        for value in dimension.choices or (dimension.low, dimension.high):
            apply(config, {key: value})
    updates = trial_updates(config)
    if search.report_every > updates:
        raise UserError(
            f"search.report_every {search.report_every} lies beyond a trial's {updates} updates, so nothing would be reported; "
            "lower it or raise search.updates"
        )
    if search.asha and search.asha.grace * search.report_every > updates:
        raise UserError(
            f"search.asha.grace {search.asha.grace} reports of {search.report_every} updates lie beyond a trial's {updates}; "
            "lower it, or set search.asha to null"
        )


def apply(config: RunConfig, values: Values) -> RunConfig:
    """``config`` with each dotted key of ``values`` replaced. Raises ``UserError`` where the result is not a valid config."""
    tree = config.model_dump()
    for key, value in values.items():
        *parents, last = key.split(".")
        node = tree
        for name in parents:
            node = node.get(name) if isinstance(node, dict) else None
        if not isinstance(node, dict) or last not in node:
            raise UserError(f"search.space: there is no setting `{key}`")
        node[last] = value
    described = ", ".join(f"{key} = {value}" for key, value in values.items())
    return parse_config(tree, f"search.space: {described}")


def trial_updates(config: RunConfig) -> int:
    """The updates of a trial that is not stopped."""
    return config.search.updates or config.distill.updates


def trial_config(config: RunConfig, values: Values) -> RunConfig:
    """The config a trial is distilled with: the search's length and checkpoints, the trial's values."""
    length = {"updates": trial_updates(config), "checkpoint_every": config.search.report_every}
    distill = config.distill.model_copy(update=length)
    return apply(config.model_copy(update={"distill": distill}), values)


def own_values(config: RunConfig) -> Values | None:
    """The values that the config itself gives to what the search varies; None where one lies outside of its dimension."""
    values: Values = {}
    for key, dimension in config.search.space.items():
        node: Any = config
        for name in key.split("."):
            node = getattr(node, name)
        if dimension.choices is not None:
            inside = node in dimension.choices
        else:
            assert (
                dimension.low is not None and dimension.high is not None
            )  # the config's own check
            inside = isinstance(node, int | float) and dimension.low <= node <= dimension.high
        if not inside:
            return None
        values[key] = node
    return values


def draw(search: SearchConfig, seed: int, number: int) -> Values:
    """The values of random trial ``number``: a function of these arguments alone."""
    shares = torch.rand(
        len(search.space), dtype=torch.float64, generator=generator(seed, "search", number)
    ).tolist()
    return {
        key: _at(dimension, share) for (key, dimension), share in zip(search.space.items(), shares)
    }


def _at(dimension: Dimension, share: float) -> Any:
    """The value a share 0..1 into the dimension."""
    if dimension.choices is not None:
        return dimension.choices[int(share * len(dimension.choices))]
    assert dimension.low is not None and dimension.high is not None  # the config's own check
    if dimension.log:
        value = dimension.low * (dimension.high / dimension.low) ** share
    else:
        value = dimension.low + share * (dimension.high - dimension.low)
    return readable(dimension, value)


def readable(dimension: Dimension, value: Any) -> Any:
    """A value of the range with four significant digits, which still lies in it; choices as they are."""
    if dimension.low is None or dimension.high is None:
        return value
    return min(max(float(f"{value:.4g}"), dimension.low), dimension.high)
