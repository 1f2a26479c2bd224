"""The runs of a comparison: one config per method."""

from collections.abc import Mapping, Sequence

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.config.identity import store_fingerprint
from ltdd_ray.methods import METHODS, method_config


def plan_comparison(base: RunConfig, methods: Sequence[str]) -> dict[str, RunConfig]:
    """The config of each of ``methods``, in the given order and without repeats.

    Each run has its own folder inside the folder of ``base``. Methods with the same experts as
    ``base`` use its trajectory store. Methods with other experts use a store whose name ends in the
    fingerprint of their experts. Raises ``UserError`` for an unknown method and for an empty list.
    """
    if not methods:
        raise UserError(
            f"compare: the list of methods is empty; name at least one of {', '.join(METHODS)}"
        )
    configs = {}
    for method in dict.fromkeys(methods):
        config = method_config(base, method)
        fingerprint = store_fingerprint(config)
        store = (
            base.store_uri
            if fingerprint == store_fingerprint(base)
            else f"{base.store_uri}-{fingerprint}"
        )
        experts = config.experts.model_copy(update={"store": store})
        configs[method] = config.model_copy(
            update={"name": f"{base.name}/{method}", "experts": experts}
        )
    return configs


def expert_trainers(configs: Mapping[str, RunConfig]) -> dict[str, RunConfig]:
    """Those of ``configs`` that train the experts of all: one method for each trajectory store.

    It is the first that asks for the most experts, so that none is missing to another method.
    """
    chosen: dict[str, str] = {}
    for method, config in configs.items():
        if config.needs_experts:
            before = chosen.setdefault(config.store_uri, method)
            if config.experts.count > configs[before].experts.count:
                chosen[config.store_uri] = method
    return {method: configs[method] for method in chosen.values()}
