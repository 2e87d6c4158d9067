"""How far a drain is: what the held targets still have in work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from msgspec import Struct

from appliance.control.holds import Target
from appliance.store.queries import Store
from bus.connection import Bus
from bus.registry import Registry

LOOK_S = 2.0
"""It is looked at with every fact, and at least this often: a command that is given back leaves no fact."""
OPEN_JOBS = ("queued", "running", "clipping")


class Remaining(Struct, frozen=True, kw_only=True):
    """What one target still works on."""

    target: Target
    in_work: int
    """Tasks in the hands of the stage's workers; for `intake`, jobs that have not ended."""
    waiting: int
    """Tasks that wait and go on waiting; 0 for `intake`."""


async def remaining(bus: Bus, database: Path, targets: Sequence[Target]) -> list[Remaining]:
    """Of this moment. Raises `bus.errors.Retryable`, `StoreDamaged`."""
    depths, workers = await asyncio.gather(bus.queue_depths(), Registry(bus).all())
    found = []
    for target in targets:
        if target == "intake":
            found.append(Remaining(target=target, in_work=await asyncio.to_thread(_open_jobs, database), waiting=0))
        else:
            busy = sum(1 for worker in workers if worker.stage == target and worker.job is not None)
            depth = depths[target]
            found.append(Remaining(target=target, in_work=max(busy, depth.in_flight), waiting=depth.pending))
    return found


async def draining(bus: Bus, database: Path, targets: Sequence[Target]) -> AsyncIterator[list[Remaining]]:
    """What is left, whenever that may have changed; ends after nothing is in work. Raises as `remaining`."""
    async with bus.live("evt.>", max_items=1) as feed:
        while True:
            left = await remaining(bus, database, targets)
            yield left
            if not any(row.in_work for row in left):
                return
            await feed.next(LOOK_S)


def _open_jobs(database: Path) -> int:
    with Store(database) as store:
        counts = store.job_counts()
    return sum(counts.get(state, 0) for state in OPEN_JOBS)
