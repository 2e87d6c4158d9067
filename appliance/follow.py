"""Following one job from anywhere: its history first, then the live feed, with no gap between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from appliance.progress import JobView
from appliance.worker.report import JobProgress
from bus.connection import Bus
from bus.errors import UndecodableEvent
from bus.subjects import item_filter

RESYNC_S = 5.0
"""How often the stream is asked whether the live feed missed something."""
BATCH = 256


async def follow(bus: Bus, view: JobView, changed: Callable[[], None]) -> None:
    """Fold everything about the view's job into it until the job has ended; `changed` after each step.

    The live feed may drop what a slow reader does not take and misses what happens during a reconnect; the stream is
    read again from the last sequence seen every few seconds, so nothing is missed for longer.
    """
    filters = (item_filter(view.job), f"{item_filter(view.job)}.*")
    async with asyncio.TaskGroup() as tasks:
        progress = tasks.create_task(_progress(bus, view, changed))
        async with bus.live(filters[0]) as job_feed, bus.live(filters[1]) as clip_feed:
            wake = asyncio.Event()
            feeds = [tasks.create_task(_wake(feed, wake)) for feed in (job_feed, clip_feed)]
            seq = 0
            while True:
                seq = await _catch_up(bus, view, seq)
                changed()
                if view.ended:
                    break
                wake.clear()
                try:
                    async with asyncio.timeout(RESYNC_S):
                        await wake.wait()
                except TimeoutError:
                    continue
            for task in (progress, *feeds):
                task.cancel()


async def _wake(feed: object, wake: asyncio.Event) -> None:
    async for _ in feed:  # type: ignore[attr-defined]
        wake.set()


async def _catch_up(bus: Bus, view: JobView, seq: int) -> int:
    """Fold the stored facts after `seq` of the job and its clips, in stream order."""
    while True:
        batches = [
            await bus.read(seq, subject, BATCH) for subject in (item_filter(view.job), f"{item_filter(view.job)}.*")
        ]
        # Two filtered reads are merged only as far as both are known to be complete.
        full = [batch[-1].seq for batch in batches if len(batch) == BATCH]
        limit = min(full) if full else None
        merged = sorted((stored for batch in batches for stored in batch), key=lambda stored: stored.seq)
        for stored in merged:
            if limit is not None and stored.seq > limit:
                break
            try:
                view.fact(stored.seq, stored.event)
            except UndecodableEvent:
                continue
            seq = stored.seq
        if limit is None:
            return merged[-1].seq if merged else seq


async def _progress(bus: Bus, view: JobView, changed: Callable[[], None]) -> None:
    async with bus.telemetry_feed(f"tel.progress.{view.job}") as feed:
        async for sample in feed:
            report = msgspec.json.decode(sample.data, type=JobProgress)
            view.progress(report.stage, report.clip, report.done)
            changed()
