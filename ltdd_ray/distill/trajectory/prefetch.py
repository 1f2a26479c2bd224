"""Prefetch: a thread reads the next values while the present one is in use."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


def prefetch(read: Callable[[_K], _V], keys: Iterable[_K], depth: int) -> Generator[_V, None, None]:
    """Yield ``read(key)`` for each key, in order, reading at most ``depth`` values in advance.

    An exception of ``read`` is raised in place of its value. Closing the generator waits for the
    read in progress.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
        remaining = iter(keys)
        waiting = deque(thread.submit(read, key) for key in islice(remaining, depth))
        try:
            while waiting:
                value = waiting.popleft().result()
                waiting.extend(thread.submit(read, key) for key in islice(remaining, 1))
                yield value
        finally:
            thread.shutdown(cancel_futures=True)
