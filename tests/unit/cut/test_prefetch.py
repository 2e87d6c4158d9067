from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from stages.media.prefetch import prefetched


def test_items_arrive_in_order() -> None:
    with prefetched(range(100), 3) as items:
        assert list(items) == list(range(100))


def test_it_runs_ahead_by_no_more_than_asked() -> None:
    made, third = [], threading.Event()

    def source() -> Iterator[int]:
        for n in range(50):
            made.append(n)
            if n == 3:
                third.set()
            yield n

    with prefetched(source(), 2) as items:
        assert next(items) == 0
        assert third.wait(5)  # one taken, two in the queue, one in hand
        assert len(made) <= 5


def test_the_source_s_error_is_raised_where_items_are_taken() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("broken picture")

    with prefetched(source(), 2) as items:
        assert next(items) == 1
        with pytest.raises(ValueError, match="broken picture"):
            next(items)


def test_leaving_early_closes_the_source_and_ends_the_thread() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            n = 0
            while True:
                yield n
                n += 1
        finally:
            closed.set()

    before = threading.active_count()
    with prefetched(source(), 2) as items:
        next(items)
    assert closed.wait(5)
    assert threading.active_count() == before
