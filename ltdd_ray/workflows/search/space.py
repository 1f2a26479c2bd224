"""The search space: random values of a trial, and the config that a trial runs with."""

from math import prod
from typing import Any

import torch

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.seeding import generator
from ltdd_ray.config import Dimension, RunConfig, SearchConfig
from ltdd_ray.config.loading import parse_config

Values = dict[str, Any]  # a value for each key of search.space, in its order


def check_search(config: RunConfig) -> None:
    """Raise ``UserError`` for a search that cannot finish.

    That is: an engine without experts, an unknown or invalid setting, or trials that are too short
    to report.
    """
    search = config.search
    if config.distill.engine != "matching":
        raise UserError(
            f"distill.engine is {config.distill.engine}, but a search needs trajectory matching; "
            "choose it with --set method=ltdd, or method=ltdd_mosaic"
        )
    for key, dimension in search.space.items():
        if not key.startswith("distill."):
            raise UserError(
                f"search.space: `{key}` cannot be varied, as all trials share the same experts; "
                "use keys of `distill`"
            )
        for value in dimension.choices or (dimension.low, dimension.high):
            apply(config, {key: value})
    updates = trial_updates(config)
    if search.report_every > updates:
        raise UserError(
            f"search.report_every is {search.report_every}, but a trial has only {updates} "
            "updates, so no trial would report; lower it or raise search.updates"
        )
    if search.asha and search.asha.grace * search.report_every > updates:
        raise UserError(
            f"search.asha.grace is {search.asha.grace} reports of {search.report_every} updates, "
            f"but a trial has only {updates}; lower it, or set search.asha to null"
        )


def apply(config: RunConfig, values: Values) -> RunConfig:
    """``config`` with the setting at each dotted key of ``values`` replaced.

    Raises ``UserError`` for an unknown key or an invalid value.
    """
    tree = config.model_dump()
    for key, value in values.items():
        *parents, last = key.split(".")
        node = tree
        for name in parents:
            node = node.get(name) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise UserError(
                f"search.space: there is no setting `{key}`, as `{'.'.join(parents)}` is not a "
                "section of the config; mend the key"
            )
        node[last] = value  # parse_config refuses an unknown name
    described = ", ".join(f"{key} = {value}" for key, value in values.items())
    return parse_config(tree, f"search.space: {described}")


def trial_updates(config: RunConfig) -> int:
    """Number of updates of a trial that is not stopped."""
    return config.search.updates or config.distill.updates


def trial_config(config: RunConfig, values: Values) -> RunConfig:
    """The config of a trial: its values, and the updates and checkpoints of the search."""
    length = {"updates": trial_updates(config), "checkpoint_every": config.search.report_every}
    distill = config.distill.model_copy(update=length)
    return apply(config.model_copy(update={"distill": distill}), values)


def own_values(config: RunConfig) -> Values | None:
    """The config's own values of the settings that are varied; None if one is outside the space."""
    values: Values = {}
    for key in config.search.space:
        node: Any = config
        for name in key.split("."):
            node = getattr(node, name)
        values[key] = node
    return values if in_space(config.search, values) else None


def in_space(search: SearchConfig, values: Values) -> bool:
    """Whether ``values`` are those of the keys of ``search.space``, all of them inside it."""
    return set(values) == set(search.space) and all(
        _inside(dimension, values[key]) for key, dimension in search.space.items()
    )


def _inside(dimension: Dimension, value: Any) -> bool:
    if dimension.choices is not None:
        return value in dimension.choices
    # The config checks that there are either choices or bounds.
    assert dimension.low is not None and dimension.high is not None
    return isinstance(value, int | float) and dimension.low <= value <= dimension.high


def different_trials(search: SearchConfig) -> int:
    """``search.trials``, or the number of combinations of choices where that is smaller."""
    choices = [dimension.choices for dimension in search.space.values()]
    combinations = prod(len(one) for one in choices if one)
    return search.trials if None in choices else min(search.trials, combinations)


def draw(search: SearchConfig, seed: int, number: int, attempt: int = 0) -> Values:
    """The values of random trial ``number``: a function of these arguments alone.

    ``attempt`` is the number of earlier proposals, whose values were tried already.
    """
    index = (number, attempt) if attempt else (number,)
    positions = torch.rand(
        len(search.space), dtype=torch.float64, generator=generator(seed, "search", *index)
    ).tolist()
    return {
        key: _at(dimension, position)
        for (key, dimension), position in zip(search.space.items(), positions)
    }


def _at(dimension: Dimension, position: float) -> Any:
    """The value at ``position`` 0..1 of the dimension."""
    if dimension.choices is not None:
        return dimension.choices[int(position * len(dimension.choices))]
    assert dimension.low is not None and dimension.high is not None
    if dimension.log:
        value = dimension.low * (dimension.high / dimension.low) ** position
    else:
        value = dimension.low + position * (dimension.high - dimension.low)
    return readable(dimension, value)


def readable(dimension: Dimension, value: Any) -> Any:
    """A number rounded to four significant digits, within the range; a choice unchanged."""
    if dimension.low is None or dimension.high is None:
        return value
    return min(max(float(f"{value:.4g}"), dimension.low), dimension.high)
