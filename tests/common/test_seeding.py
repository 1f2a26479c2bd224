import torch

from ltdd_ray.common.seeding import derive_seed, generator


def test_seeds_stay_what_they_are() -> None:
    """Every number that a run draws depends on them: another value here is another result."""
    assert derive_seed(0, "expert-network", 3) == 2228202127486872850
    assert torch.randint(1000, (3,), generator=generator(7, "batches", 1, 2)).tolist() == [
        23,
        864,
        298,
    ]


def test_seeds_differ_between_runs_purposes_and_indices() -> None:
    indices = ((), (0,), (1,), (0, 1), (1, 0), (10,))
    seeds = {derive_seed(run, p, *index) for run in (0, 1) for p in "ab" for index in indices}
    assert len(seeds) == 24 and all(0 <= seed < 2**63 for seed in seeds)
