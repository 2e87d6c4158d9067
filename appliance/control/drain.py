"""How far a drain is: what the held targets still have in work."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from msgspec import Struct

from appliance.control.holds import Target
from appliance.store.queries import Store
from appliance.supervisor.lock import box_pid
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
    workers: int
    """Workers of the stage that the box keeps and that are still there; 0 for `intake`."""
    waiting: int
    """Tasks that wait and go on waiting; 0 for `intake`."""


async def remaining(bus: Bus, data_dir: Path, targets: Sequence[Target]) -> list[Remaining]:
    """Of this moment. Raises `bus.errors.Retryable`, `StoreDamaged`."""
    depths, workers = await asyncio.gather(bus.queue_depths(), Registry(bus).all())
    here = [worker.pid for worker in workers if worker.host == platform.node()]
    kept = await asyncio.to_thread(_children_of_box, data_dir, here)
    found = []
    for target in targets:
        if target == "intake":
            open_jobs = await asyncio.to_thread(_open_jobs, data_dir / "appliance.db")
            found.append(Remaining(target=target, in_work=open_jobs, workers=0, waiting=0))
            continue
        mine = [worker for worker in workers if worker.stage == target]
        busy = sum(1 for worker in mine if worker.job is not None)
        depth = depths[target]
        found.append(
            Remaining(
                target=target,
                in_work=max(busy, depth.in_flight),
                workers=sum(1 for worker in mine if worker.pid in kept),
                waiting=depth.pending,
            )
        )
    return found


async def draining(bus: Bus, data_dir: Path, targets: Sequence[Target]) -> AsyncIterator[list[Remaining]]:
    """What is left, whenever that may have changed; ends when nothing is in work and the box keeps no worker any more.

    Raises as `remaining`.
    """
    async with bus.live("evt.>", max_items=1) as feed:
        while True:
            left = await remaining(bus, data_dir, targets)
            yield left
            if not any(row.in_work or row.workers for row in left):
                return
            await feed.next(LOOK_S)


def _open_jobs(database: Path) -> int:
    with Store(database) as store:
        counts = store.job_counts()
    return sum(counts.get(state, 0) for state in OPEN_JOBS)


def _children_of_box(data_dir: Path, pids: Sequence[int]) -> set[int]:
    """Those of `pids` that the box keeps. Workers that somebody started by hand stay, and take nothing."""
    box, found = box_pid(data_dir), set()
    for pid in pids:
        with suppress(psutil.Error):
            if psutil.Process(pid).ppid() == box:
                found.add(pid)
    return found
