"""The audit trail: who did what to which thing, from where, as `user:action` facts.

Told to the bus at once when it answers, through a table of `web.db` when it does not: a person can log in, and a line
of the trail is not lost, while the bus is away. Each line has one id, so telling it twice stores it once.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from appliance.sqlite import sqlite3
from bus.connection import Bus
from bus.errors import BusError, Retryable
from bus.events import UserAction, decode_event, encode
from web.database import WebDatabase
from web.problems import Problem

log = logging.getLogger(__name__)
SOURCE = "web"
AT_ONCE_S = 1.0
AGAIN_S = 1.0
BATCH = 100
MAX_UNSAID = 100_000
"""Lines that may wait for the bus; past them whoever would add one is told, with 503."""


class AuditTrail:
    """One per process: `run` until cancelled."""

    def __init__(self, bus: Bus, db: WebDatabase) -> None:
        self._bus = bus
        self._db = db
        self._wake = asyncio.Event()
        self._waiting = True
        """Whether lines may be in the table: then later ones follow them there, so that the order is kept."""

    async def say(self, user: str, action: str, target: str | None = None, remote: str | None = None) -> None:
        """Write one line; it is stored, here or there, when this returns. Raises `Problem` 503 when neither can."""
        line = UserAction(source=SOURCE, user=user, action=action, target=target, remote=remote)
        if self._bus.connected and not self._waiting:
            try:
                async with asyncio.timeout(AT_ONCE_S):
                    await self._bus.publish(line)
                    return
            except (TimeoutError, Retryable):
                log.info("the bus does not answer: a line of the audit trail waits")
        self._waiting = True
        await self._db.change(lambda db: _keep(db, encode(line)))
        self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake.clear()
            try:
                while await self._round():
                    pass
                self._waiting = self._wake.is_set()
                await self._wake.wait()
            except Retryable:
                await asyncio.sleep(AGAIN_S)  # publish has waited for the connection before it gave up
            except (BusError, sqlite3.Error):
                log.exception("a line of the audit trail cannot be told; tried again")
                await asyncio.sleep(AGAIN_S)

    async def _round(self) -> int:
        rows = await self._db.read(
            lambda db: db.execute("SELECT number, event FROM unsaid ORDER BY number LIMIT ?", (BATCH,)).fetchall()
        )
        for number, data in rows:
            await self._bus.publish(decode_event(data))
            await self._db.change(partial(_forget, number=number))
        return len(rows)


def _keep(db: sqlite3.Connection, data: bytes) -> None:
    (count,) = db.execute("SELECT count(*) FROM unsaid").fetchone()
    if count >= MAX_UNSAID:
        raise Problem(
            503, "audit-full", f"{count} lines of the audit trail wait for the event bus: bring it back first"
        )
    db.execute("INSERT INTO unsaid (event) VALUES (?)", (data,))


def _forget(db: sqlite3.Connection, number: int) -> None:
    db.execute("DELETE FROM unsaid WHERE number = ?", (number,))
