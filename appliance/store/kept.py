"""A read-only connection that stays open: opening one costs several times what a small question to it does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.sqlite import sqlite3
from appliance.store.database import open_reader

_Identity = tuple[int, int]


class KeptReader:
    """Of one database file, for one thread at a time. Opened when it is first asked, anew when the file is another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = threading.Lock()
        self._kept: tuple[_Identity | None, sqlite3.Connection] | None = None

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """The connection, for the block; read all rows inside it. Raises as `open_reader`."""
        with self._turn:
            identity = _identity(self._path)
            if self._kept is None or self._kept[0] != identity:
                self.close()
                self._kept = identity, open_reader(self._path, check_same_thread=False)
            try:
                yield self._kept[1]
            except BaseException:
                self.close()  # also of what went wrong only once
                raise

    def close(self) -> None:
        """Nothing is kept any more; it is opened anew when it is asked again."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept[1].close()


def _identity(path: Path) -> _Identity | None:
    """Which file it is, None when there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
