"""Run an iterator in a thread of its own, a bounded number of items ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
_JOIN_S = 30.0


@contextmanager
def prefetched(source: Iterable[T], depth: int) -> Iterator[Iterator[T]]:
    """Yield an iterator over `source`, which runs in a thread at most `depth` items ahead.

    Its exception is raised where the items are taken. Leaving the block early stops the thread after its current
    item and closes a generator source, so that its files are closed too.
    """
    items: queue.Queue[tuple[str, object]] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: tuple[str, object]) -> bool:
        while not stopped.is_set():
            try:
                items.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in source:
                if not put(("item", item)):
                    return
            put(("end", None))
        except BaseException as error:  # noqa: BLE001 - handed to the taker, who raises it
            put(("error", error))
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()

    def take() -> Iterator[T]:
        while True:
            kind, item = items.get()
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(item, BaseException)
                raise item
            yield item  # type: ignore[misc]  # put as T by `work`

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stopped.set()
        thread.join(_JOIN_S)
