"""Reading ahead: order, depth, failures, and the end of its thread."""

import threading

import pytest

from ltdd_ray.distill.trajectory.prefetch import prefetch


def test_values_come_in_order_and_every_key_is_read_once() -> None:
    read = []
    values = prefetch(lambda key: (read.append(key), key * key)[1], iter(range(7)), depth=3)
    assert list(values) == [k * k for k in range(7)] and read == list(range(7))


def test_the_thread_stays_depth_keys_ahead_and_no_more() -> None:
    read, reached = [], {count: threading.Event() for count in range(1, 10)}

    def record(key: int) -> int:
        read.append(key)
        reached[len(read)].set()
        return key

    values = prefetch(record, range(9), depth=2)
    assert next(values) == 0
    assert reached[3].wait(10)  # 1 and 2, while 0 is worked on
    assert next(values) == 1
    assert reached[4].wait(10) and read == [0, 1, 2, 3]
    values.close()
    assert read == [0, 1, 2, 3]


def test_reading_goes_on_while_the_consumer_works() -> None:
    turn = threading.Event()
    values = prefetch(lambda key: turn.set() if key else None, range(2), depth=1)
    next(values)
    assert turn.wait(10)
    values.close()


def test_a_failure_comes_in_the_place_of_its_value() -> None:
    values = prefetch(lambda key: 6 // key, [3, 2, 0, 1], depth=4)
    assert [next(values), next(values)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(values)


def test_closing_ends_the_thread() -> None:
    before = threading.active_count()
    values = prefetch(abs, range(100), depth=2)
    next(values)
    assert threading.active_count() == before + 1
    values.close()
    assert threading.active_count() == before
