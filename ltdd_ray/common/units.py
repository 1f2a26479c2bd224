"""Times and sizes in words, as people read them."""

from math import ceil


def duration(seconds: float) -> str:
    """Two units at most: ``3.2 s``, ``1 min 35 s``, ``8 h 43 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """A number of bytes: ``3 KiB``, ``700 MiB``, ``1.5 GiB``."""
    if count >= 2**30:
        return f"{count / 2**30:.1f} GiB"
    if count >= 2**20:
        return f"{count / 2**20:.0f} MiB"
    return f"{ceil(count / 2**10)} KiB"  # rounded up, so that only an empty file has 0
