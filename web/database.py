"""`web.db` for an event loop: one connection on one thread, every change a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar

from appliance.accounts.database import open_accounts, transaction
from appliance.sqlite import sqlite3

T = TypeVar("T")


class WebDatabase:
    """Calls run in their order, one at a time."""

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._thread = thread

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Raises `StoreDamaged`."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="web-db")
        try:
            connection = await asyncio.get_running_loop().run_in_executor(thread, open_accounts, path)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(connection, thread)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        await asyncio.to_thread(self._thread.shutdown)

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """`query(connection)`, which changes nothing."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, query, self._connection)

    async def change(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """`change(connection)` in one transaction, on the disk when this returns; nothing when it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._changed, change)

    def _changed(self, change: Callable[[sqlite3.Connection], T]) -> T:
        with transaction(self._connection):
            return change(self._connection)

    async def data_version(self) -> int:
        """Another number as soon as another process has changed something."""
        return int((await self.read(lambda db: db.execute("PRAGMA data_version").fetchone()))[0])
