"""Reading the database from an event loop: a few read-only connections, each on a thread of its own, with a time limit.

A query is a plain function of a connection and runs inside one read transaction on one thread. With a rollback journal
a reader holds up the writer for as long as its transaction lasts, so it must never last across turns of an event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from appliance.errors import SourceUnavailable, StoreDamaged
from appliance.sqlite import sqlite3
from appliance.store.database import open_reader

T = TypeVar("T")

CONNECTIONS = 3
CACHE_KIB = 8192
"""Pages that each connection keeps in memory."""
STEPS_BETWEEN_LOOKS = 20_000
"""Steps of SQLite's machine, about a millisecond, after which a query looks whether it is still wanted."""


class Position(NamedTuple):
    """A place in the stream of facts. Of two positions the later one is the greater."""

    epoch: str
    """When the stream was made."""
    seq: int


NOWHERE = Position("", 0)


class Readers:
    """A pool of read-only connections, opened on first use. Use as an async context manager."""

    def __init__(self, path: Path, *, timeout_s: float = 0.5, connections: int = CONNECTIONS) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="reader")
        self._local = threading.local()
        self._open: set[sqlite3.Connection] = set()
        self._closing = threading.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        for connection in self._open:
            connection.close()
        self._open.clear()

    async def run(self, query: Callable[[sqlite3.Connection], T], *, timeout_s: float | None = None) -> T:
        """`query(connection)` in one read transaction. Raises `SourceUnavailable` when it cannot be had in time.

        Past the limit the query is interrupted, so that its thread is free again.
        """
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        stopped = threading.Event()
        future = asyncio.get_running_loop().run_in_executor(self._threads, self._query, query, stopped)
        try:
            async with asyncio.timeout(limit_s):
                return await asyncio.shield(future)
        except TimeoutError as error:
            raise SourceUnavailable(f"the database did not answer within {limit_s:g} s") from error
        except (sqlite3.Error, StoreDamaged) as error:
            raise SourceUnavailable(f"the database cannot be read: {error}") from error
        finally:
            stopped.set()
            future.add_done_callback(_forget)

    async def position(self) -> Position:
        """The stream position that the rows include. Raises `SourceUnavailable`."""
        return await self.run(position)

    def _query(self, query: Callable[[sqlite3.Connection], T], stopped: threading.Event) -> T:
        if stopped.is_set() or self._closing.is_set():
            raise SourceUnavailable("nobody waits for this query any more")
        connection = self._connection()
        # Unlike interrupt(), which may hit the next query on this connection, the handler belongs to this one.
        connection.set_progress_handler(lambda: stopped.is_set() or self._closing.is_set(), STEPS_BETWEEN_LOOKS)
        try:
            connection.execute("BEGIN")
            return query(connection)
        except sqlite3.Error:
            self._discard(connection)
            raise
        finally:
            if connection in self._open:
                connection.set_progress_handler(None, 0)
                connection.rollback()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = open_reader(self._path, check_same_thread=False)
            connection.execute(f"PRAGMA busy_timeout={round(self._timeout_s * 1000)}")
            connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            self._local.connection = connection
            self._open.add(connection)
        return connection

    def _discard(self, connection: sqlite3.Connection) -> None:
        """After an error the next query opens the file anew: it may have been replaced."""
        self._local.connection = None
        self._open.discard(connection)
        connection.close()


def position(db: sqlite3.Connection) -> Position:
    """The stream position that this transaction sees."""
    known = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('epoch', 'cursor')").fetchall())
    return Position(known.get("epoch", ""), int(known.get("cursor", 0)))


def _forget(future: asyncio.Future[T]) -> None:
    """Takes note of the error of a query that nobody waits for."""
    if not future.cancelled():
        future.exception()
