"""The cost of a badly scaled image rate: the demo with its lr_image times 0.1, 1, 10 and 100.

    python benchmarks/robustness.py

Prints per factor the accuracy of networks trained on the result, the largest root mean square step
of the images in one update, and the number of updates shortened to `distill.largest_image_step`;
then the same without that limit.
"""

import tempfile
from pathlib import Path
from statistics import mean

from ltdd_ray.common.device import prepare_process
from ltdd_ray.common.errors import NonFiniteLossError
from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import load_config
from ltdd_ray.data.prepare import PreparedData, prepare_data
from ltdd_ray.distill.trajectory.loop import distill
from ltdd_ray.evaluate.train import evaluate_network
from ltdd_ray.experts.expert import run_expert
from ltdd_ray.experts.plan import missing_experts

DEMO = Path(__file__).parents[1] / "configs" / "demo.yaml"
NETWORKS = 2


def main() -> None:
    prepare_process(2)
    with tempfile.TemporaryDirectory() as folder:
        base = load_config(DEMO, [f"output={folder}"])
        data = prepare_data(base)
        for expert in missing_experts(base, data.train):
            run_expert(base, data, expert, lambda report: None)
        for factor in (0.1, 1, 10, 100):
            for limit in (base.distill.largest_image_step, 1e9):
                settings = {"lr_image": factor * base.distill.lr_image, "largest_image_step": limit}
                changed = base.model_copy(
                    update={"distill": base.distill.model_copy(update=settings)}
                )
                print(
                    f"lr_image x {factor:<5} limit {limit:<6.3g}",
                    _outcome(changed, data),
                    flush=True,
                )


def _outcome(config: RunConfig, data: PreparedData) -> str:
    steps: list[float] = []
    try:
        result = distill(
            config,
            data,
            on_update=lambda report, synthetic: steps.append(report.metrics["update_rms/images"]),
            on_checkpoint=lambda write, update: None,
            on_initial=lambda initial, said: None,
        )
        result.save(config.folder / "distilled")
        networks = [
            evaluate_network(config, data, "distilled", config.model.label, k, lambda report: None)
            for k in range(NETWORKS)
        ]
    except NonFiniteLossError as error:
        return f"stopped at update {len(steps) + 1}: {error}"
    shortened = sum(step >= 0.99 * config.distill.largest_image_step for step in steps)
    accuracy = 100 * mean(network.accuracy for network in networks)
    at_limit = f"{shortened} of {len(steps)} updates at the limit"
    return f"accuracy {accuracy:.1f} %, largest step {max(steps):.3g}, {at_limit}"


if __name__ == "__main__":
    main()
