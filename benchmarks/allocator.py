"""What keeping freed memory gains on a CPU: a step with glibc's defaults and after prepare_process.

    python benchmarks/allocator.py

Each round times both in fresh processes, one after the other. Prints the ratio's median and range
over rounds. Results are in LOG.md.
"""

import statistics
import subprocess
import sys
import time

ROUNDS, STEPS = 5, 10


def seconds_per_step(keep: bool) -> float:
    """Median over steps of ConvNet-3, width 32, on 128 images of 3 x 32 x 32."""
    import torch

    from ltdd_ray.common.device import prepare_process
    from ltdd_ray.config import ModelConfig
    from ltdd_ray.nn.networks import build_network

    torch.set_num_threads(1)
    if keep:
        prepare_process(threads=1)
    network = build_network(ModelConfig(width=32), (3, 32, 32), 10, seed=0)
    images, labels = torch.randn(128, 3, 32, 32), torch.arange(128) % 10
    times = []
    for _ in range(STEPS):
        began = time.perf_counter()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        times.append(time.perf_counter() - began)
    return statistics.median(times[2:])


def main() -> None:
    ratios = []
    for _ in range(ROUNDS):
        default, kept = (
            float(subprocess.check_output([sys.executable, __file__, allocator]))
            for allocator in ("default", "keep")
        )
        ratios.append(default / kept)
        times = f"default {1e3 * default:.0f} ms, keeping memory {1e3 * kept:.0f} ms"
        print(f"{times}, ratio {ratios[-1]:.2f}")
    median, low, high = statistics.median(ratios), min(ratios), max(ratios)
    print(f"ratio: median {median:.2f}, range {low:.2f} to {high:.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(seconds_per_step(keep=sys.argv[1] == "keep"))
    else:
        main()
