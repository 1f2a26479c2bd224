"""Samplers of trial values: random search, or Optuna's TPE, which learns from earlier scores."""

from typing import Any, Protocol

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.seeding import derive_seed
from ltdd_ray.config import Dimension, RunConfig
from ltdd_ray.workflows.search.space import Values, draw, readable


class Sampler(Protocol):
    """Proposes the values of trials."""

    def ask(self, number: int) -> Values:
        """Values for trial ``number``."""
        ...

    def tell(self, values: Values, score: float) -> None:
        """A trial with these values ended with this score; larger is better."""
        ...


class RandomSampler:
    """Independent random values."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config

    def ask(self, number: int) -> Values:
        return draw(self._config.search, self._config.seed, number)

    def tell(self, values: Values, score: float) -> None:
        """Random search does not use scores."""


class OptunaSampler:
    """Tree-structured Parzen estimators (Bergstra et al., NeurIPS 2011) as implemented in Optuna.

    ``known``: the number of trials that earlier sessions asked for. It is part of the seed, so that
    a resumed search does not draw their random values again.
    """

    def __init__(self, config: RunConfig, known: int) -> None:
        try:
            import optuna
        except ImportError:
            raise UserError(
                "search.algorithm is optuna, which is not installed; run `pip install optuna`, "
                "or --set search.algorithm=random"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        seed = derive_seed(config.seed, "search-optuna", known) % 2**32
        self._study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed)
        )
        self._space = config.search.space
        self._distributions = {
            key: _distribution(optuna, dimension) for key, dimension in self._space.items()
        }

    def ask(self, number: int) -> Values:
        found = self._study.ask(self._distributions).params
        return {key: readable(self._space[key], value) for key, value in found.items()}

    def tell(self, values: Values, score: float) -> None:
        trial = self._optuna.trial.create_trial(
            params=values, distributions=self._distributions, value=score
        )
        self._study.add_trial(trial)


def make_sampler(config: RunConfig, known: int) -> Sampler:
    """The sampler of ``search.algorithm``. Raises ``UserError`` where it is not installed."""
    return (
        OptunaSampler(config, known)
        if config.search.algorithm == "optuna"
        else RandomSampler(config)
    )


def _distribution(optuna: Any, dimension: Dimension) -> Any:
    if dimension.choices is not None:
        return optuna.distributions.CategoricalDistribution(dimension.choices)
    return optuna.distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)
