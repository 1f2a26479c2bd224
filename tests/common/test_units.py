import pytest

from ltdd_ray.common.units import duration, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (3.21, "3.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (95, "1 min 35 s"),
        (3599.7, "1 h 0 min"),
        (31388, "8 h 43 min"),
        (100_000, "27 h 46 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        *((0, "0 KiB"), (300, "1 KiB"), (3000, "3 KiB"), (2**20 - 2**10, "1023 KiB")),
        *((2**20, "1 MiB"), (700 * 2**20, "700 MiB"), (3 * 2**29, "1.5 GiB")),
    ],
)
def test_size(count: float, text: str) -> None:
    assert size(count) == text
