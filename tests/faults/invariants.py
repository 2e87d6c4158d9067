"""What must hold on a running box once it has come to rest after a fault, whatever the fault was."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from appliance.alerts.rules import DEFAULT_RULES
from appliance.cache.opening import own_server
from appliance.services.manager import STORED
from appliance.sqlite import sqlite3
from appliance.ssot.opening import open_ssot
from appliance.store.database import open_reader
from appliance.store.projection import Projection, StoredFact
from appliance.store.queries import dump
from appliance.store.schema import PROJECTED, SCHEMA
from bus.connection import Bus
from bus.errors import Retryable
from bus.events import UserAction
from tests.faults.harness import RealBox

REST_TIMEOUT_S = 90.0
"""Generous: a dispatcher that was started again looks at its workers for 20 s before it clears what it raised."""
SPEAK_EVERY_S = 0.25
MACHINE = tuple(
    rule.id.replace(".", "-") for rule in DEFAULT_RULES if rule.id not in ("monitor.blind", "bus.events.used")
)
"""Alerts about the machine that runs the test: its disk may be full, its processor busy."""


class Speaker:
    """Somebody who stores a fact four times a second. `told` are the ids of what the bus has acknowledged."""

    def __init__(self) -> None:
        self.told: list[str] = []

    @asynccontextmanager
    async def speaking(self, bus: Bus) -> AsyncIterator[None]:
        """While the block runs. An error that ended it before is the test's."""
        task = asyncio.create_task(self._speak(bus))
        try:
            yield
            if task.done():
                task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _speak(self, bus: Bus) -> None:
        while True:
            event = UserAction(user="test", action="speak")
            while True:
                with contextlib.suppress(Retryable):
                    await bus.publish(event)
                    break
            self.told.append(event.id)
            await asyncio.sleep(SPEAK_EVERY_S)


class Shadow:
    """The read model built a second time, from the stream alone, as far as the box's own has come."""

    def __init__(self) -> None:
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        connection.executescript(SCHEMA)
        self._projection = Projection(connection)
        self._cursor = 0

    async def check(self, box: RealBox, bus: Bus, told: list[str]) -> None:
        """Every fact that was acknowledged is a row, and every row is what the stream's facts make of it."""
        cursor, rows, missing = await asyncio.to_thread(_read_model, box, told)
        assert not missing, f"acknowledged and lost: {missing}"
        while self._cursor < cursor:
            facts = [fact for fact in await bus.read(self._cursor) if fact.seq <= cursor]
            assert facts, f"the database is at {cursor}, the stream ends at {self._cursor}"
            self._cursor = facts[-1].seq
            await asyncio.to_thread(self._projection.apply, [StoredFact(f.seq, f.subject, f.data) for f in facts])
        shadow = await asyncio.to_thread(dump, self._projection.connection, (*PROJECTED, "events"))
        if shadow != rows:
            here, there = set(rows.splitlines()), set(shadow.splitlines())
            raise AssertionError(f"rows differ: only here {here - there}, only by the stream {there - here}")


def _read_model(box: RealBox, told: list[str]) -> tuple[int, bytes, list[str]]:
    """Position, rows, and which of `told` are not there, all of one moment."""
    with contextlib.closing(open_reader(box.database)) as connection:
        connection.row_factory = None
        connection.execute("BEGIN")
        (cursor,) = connection.execute("SELECT value FROM meta WHERE key = 'cursor'").fetchone()
        rows = dump(connection, (*PROJECTED, "events"))
        there = {ident for (ident,) in connection.execute("SELECT id FROM events WHERE type = 'user:action'")}
        return int(cursor), rows, [ident for ident in told if ident not in there]


async def at_rest(box: RealBox, bus: Bus) -> None:
    """Wait until the read model has all facts, all programs and the cache are up, and no alert of the box is raised."""
    deadline = time.monotonic() + REST_TIMEOUT_S
    while wrong := await _restless(box, bus):
        assert time.monotonic() < deadline, f"not at rest after {REST_TIMEOUT_S:.0f} s: {wrong}"
        await asyncio.sleep(0.2)


async def _restless(box: RealBox, bus: Bus) -> str:
    def look() -> tuple[int, str]:
        with contextlib.closing(open_reader(box.database)) as db:
            (cursor,) = db.execute("SELECT value FROM meta WHERE key = 'cursor'").fetchone()
            down = [tuple(row) for row in db.execute("SELECT service, reason FROM services WHERE state = 'down'")]
            raised = [tuple(row) for row in db.execute("SELECT alert, message FROM alerts WHERE state = 'raised'")]
            ours = [alert for alert in raised if not alert[0].startswith(MACHINE)]
            failed = [tuple(row) for row in db.execute("SELECT * FROM failed_actions")]
            cache = db.execute("SELECT type FROM events WHERE type LIKE 'cache:%' ORDER BY seq DESC LIMIT 1").fetchone()
            away = cache is not None and tuple(cache) == ("cache:degraded",)
            told = (("down", down), ("raised", ours), ("failed actions", failed), ("cache", "degraded" if away else ""))
            return int(cursor), "; ".join(f"{name}: {found}" for name, found in told if found)

    cursor, wrong = await asyncio.to_thread(look)
    return f"facts after {cursor} are not in the database" if await bus.read(cursor, "evt.>", 1) else wrong


async def check_cache(box: RealBox, bus: Bus) -> None:
    """What a reader would be served from the cache is what the database says, and the cache is in use again."""
    if await asyncio.to_thread(own_server, box.config.data_dir) is None:
        return
    async with open_ssot(box.config, bus) as ssot:
        async with asyncio.timeout(REST_TIMEOUT_S):
            while (await ssot.read()).verdict != "hit":
                await asyncio.sleep(0.1)
        found = await ssot.validate()
        assert found.equal, f"cached {found.differing} is not what the database says"
        assert {"jobs", "clips", "alerts", "services"} <= set(found.checked) <= set(STORED)
