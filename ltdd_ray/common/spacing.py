"""Some of many, evenly spaced."""


def evenly_spaced(count: int, most: int) -> list[int]:
    """All of ``range(count)``, or ``most`` of it, from the first to the last."""
    shown = min(most, count)
    return [round(i * (count - 1) / max(1, shown - 1)) for i in range(shown)]
