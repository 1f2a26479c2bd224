"""Reading ahead: what comes next is fetched by a thread while the present is worked on."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


def read_ahead(
    read: Callable[[_K], _V], keys: Iterable[_K], depth: int
) -> Generator[_V, None, None]:
    """``read(key)`` for each key, in order, at most ``depth`` of them before they are asked for.

    An exception of ``read`` is raised where its value would have come. Closing the generator waits for the read in progress.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
        remaining = iter(keys)
        waiting = deque(thread.submit(read, key) for key in islice(remaining, depth))
        try:
            while waiting:
                value = waiting.popleft().result()
                waiting.extend(thread.submit(read, key) for key in islice(remaining, 1))
                yield value
        finally:
            thread.shutdown(cancel_futures=True)
