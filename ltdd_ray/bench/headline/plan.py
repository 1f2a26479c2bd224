"""Which runs there are: a cell of the paper's Table 1 and a method each."""

from dataclasses import dataclass
from pathlib import Path

from ltdd_ray.config import RunConfig, fingerprint
from ltdd_ray.config.loading import load_config

METHODS = {
    "ltdd": ["evaluate.sets=[distilled]"],
    "datm": [
        "evaluate.sets=[distilled]",
        "distill.lambda_rep=1",
        "distill.lambda_cls=0",
        "distill.label_expert=representation",
        "distill.representation.scope=all",
        "distill.representation.dam={class_weights: none}",
    ],
    "random": ["evaluate.sets=[random]"],
    "full_ce": ["evaluate.sets=[full_ce]"],
}
CHECKPOINT_EVERY = 25


@dataclass(frozen=True)
class Run:
    """One cell by one method; ``identity`` tells runs apart whose results must not be mixed."""

    name: str
    config: RunConfig

    @property
    def identity(self) -> str:
        """Of everything but the number of experts: a slice may train fewer of them than the one before."""
        tree = self.config.model_dump(
            mode="json",
            exclude={"compute": True, "output": True, "name": True, "experts": {"store", "count"}},
        )
        return fingerprint(tree)

    @property
    def distils(self) -> bool:
        return "distilled" in self.config.evaluate.sets


def plan_run(
    cell: str, method: str, configs: Path, data: Path, work: Path, overrides: list[str]
) -> Run:
    """The published config of ``cell`` (a file in ``configs``) on the parquet files in ``data``, whose rows lie in profile order.

    ``overrides`` (a.b=c) come last. Runs of one imbalance factor share their experts below ``work``. Raises ``UserError``.
    """
    name, factor = f"{cell}-{method}", cell.partition("_")[0]
    images = [
        f"data.path={data.resolve()}",
        "data.source=parquet",
        "data.selection=first",
        "data.download=false",
    ]
    places = [
        f"name={name}",
        f"method={method}",
        f"output={work.resolve()}",
        f"experts.store={work.resolve() / factor}",
    ]
    settings = [
        *images,
        *places,
        f"distill.checkpoint_every={CHECKPOINT_EVERY}",
        *METHODS[method],
        *overrides,
    ]
    return Run(name, load_config(configs / f"{cell}.yaml", settings))
