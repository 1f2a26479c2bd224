"""Which runs a comparison consists of."""

from collections.abc import Sequence

from ltdd_ray.config import RunConfig
from ltdd_ray.config.identity import store_fingerprint
from ltdd_ray.methods import method_config


def plan_comparison(base: RunConfig, methods: Sequence[str]) -> dict[str, RunConfig]:
    """The config of each of ``methods``, whose run lies in a folder of its own inside that of ``base``.

    Methods with the same experts as ``base`` share its trajectory store; others share one named after what sets theirs apart.
    Raises ``UserError`` for an unknown method.
    """
    members = {}
    for method in dict.fromkeys(methods):
        config = method_config(base, method)
        fingerprint = store_fingerprint(config)
        store = (
            base.store_uri
            if fingerprint == store_fingerprint(base)
            else f"{base.store_uri}-{fingerprint}"
        )
        experts = config.experts.model_copy(update={"store": store})
        members[method] = config.model_copy(
            update={"name": f"{base.name}/{method}", "experts": experts}
        )
    return members
