"""How far the dispatcher is behind: measured from outside, from what stream and database hold, so that it is true of a
dispatcher that is down as well."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from appliance.dispatcher.engine import CURSOR
from appliance.dispatcher.table import ACTION_TYPES
from appliance.store.database import open_reader
from appliance.store.failures import failed_actions
from bus.connection import Bus
from bus.stored import from_reply
from bus.streams import EVENTS

LATE_S = 10.0
"""Facts that wait longer than this for the database are worth a word (usual are milliseconds)."""


class DispatcherHealth(Struct, frozen=True, kw_only=True):
    """Of one moment."""

    projected_seq: int
    """Position of the read model in the stream."""
    lag_events: int
    """Facts that the database does not have yet."""
    lag_s: float
    """Age of the oldest of them; 0 when there is none."""
    actions_waiting: int
    """Facts whose actions have not been run yet."""
    actions_retrying: int
    """Actions that failed and are tried again by themselves."""
    actions_given_up: int
    """Actions that failed for the last time and wait for a person."""

    @property
    def reasons(self) -> list[str]:
        """What is wrong, in words; [] when all is well."""
        found = []
        if self.lag_s > LATE_S:
            found.append(f"the dispatcher is {self.lag_events} events and {self.lag_s:.0f} s behind")
        if self.actions_given_up:
            found.append(f"{self.actions_given_up} actions failed for good: look at `appliance events failed`")
        return found


async def measure(bus: Bus, database: Path) -> DispatcherHealth:
    """Raises `StoreDamaged` without a database, `bus.errors.Retryable` without a bus."""
    cursor, waiting = await asyncio.to_thread(_stored, database)
    failed = await asyncio.to_thread(failed_actions, database)
    query = {"seq": cursor + 1, "next_by_subj": "evt.>", "batch": 1}
    replies = await bus.direct_many(EVENTS, query)
    lag_events, lag_s = 0, 0.0
    if replies:
        lag_events = 1 + int(replies[0].headers.get("Nats-Num-Pending", 0))
        lag_s = max(0.0, (datetime.now(UTC) - from_reply(replies[0]).stored_at).total_seconds())
    retrying = sum(1 for row in failed if row.next_try_at is not None)
    return DispatcherHealth(
        projected_seq=cursor,
        lag_events=lag_events,
        lag_s=round(lag_s, 3),
        actions_waiting=waiting,
        actions_retrying=retrying,
        actions_given_up=len(failed) - retrying,
    )


def _stored(database: Path) -> tuple[int, int]:
    with closing(open_reader(database)) as db:
        meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
        marks = ", ".join("?" * len(ACTION_TYPES))
        (waiting,) = db.execute(
            f"SELECT count(*) FROM events WHERE seq > ? AND +type IN ({marks})",  # noqa: S608
            (int(meta.get(CURSOR, 0)), *ACTION_TYPES),
        ).fetchone()
        return int(meta.get("cursor", 0)), int(waiting)
