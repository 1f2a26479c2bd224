import pytest

from ltdd_ray.bench import store


def test_every_number_is_measured_and_the_sizes_meet_their_targets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"PUBLISHED_EXPERTS": 1, "UPDATES": 3, "UPDATE_SECONDS": 0.0}.items():
        monkeypatch.setattr(store, name, value)
    results = {result.name: result for result in store.measure(repeats=1)}
    assert list(results) == [
        "store_disk_float32",
        "store_disk_float16",
        "store_read_vs_torch_load",
        "store_memory",
        "store_write_vs_disk",
        "store_read_stall",
    ]
    assert all(result.low <= result.ratio <= result.high for result in results.values())
    assert (
        results["store_disk_float32"].met
        and results["store_disk_float16"].met
        and results["store_memory"].met
    )
