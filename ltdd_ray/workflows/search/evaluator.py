"""The evaluator of a search: held-out training images, and the score of a set on them."""

from ltdd_ray.config import RunConfig
from ltdd_ray.data.load import load_data
from ltdd_ray.data.normalisation import Normalisation
from ltdd_ray.data.prepare import PreparedData
from ltdd_ray.data.sources.imagenet import ShardWriter, write_in_process
from ltdd_ray.data.split import hold_out_where_possible
from ltdd_ray.evaluate.held_out import HeldOutEvaluator


def search_data(config: RunConfig, write_shards: ShardWriter = write_in_process) -> PreparedData:
    """The training images of the run, split into those to train on and those to evaluate on.

    Experts and trials use the former, the evaluator the latter. A class with fewer than
    1 / ``search.validation_fraction`` images is not split. The test images are in neither part.
    """
    splits = load_data(config.data, config.seed, write_shards)
    kept, held = hold_out_where_possible(
        splits.train, config.search.validation_fraction, config.seed, "search split"
    )
    normalisation = Normalisation.fit(kept.images, config.data.normalisation)
    return PreparedData(kept, held, normalisation, notes=splits.notes)


def search_evaluator(config: RunConfig, data: PreparedData) -> HeldOutEvaluator:
    """Scores the sets of all trials with the same networks."""
    search = config.search
    return HeldOutEvaluator(
        config,
        data,
        data.evaluation,
        networks=search.networks,
        epochs=search.epochs,
        trend_weight=search.trend_weight,
        purpose="search-network",
    )
