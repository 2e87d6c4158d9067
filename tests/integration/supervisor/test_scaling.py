"""Twenty jobs on a real box: the stage grows to its most and shrinks to its least, once each, and every job ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.intake import create_job
from bus.connection import Bus
from bus.events import JobFailed, JobOptions, JobRetrying, JobSource, WorkerOffline, WorkerScaled
from bus.feed import Feed, LiveEvent
from bus.registry import Registry
from tests.faults.harness import RealBox
from tests.media.server import Site, serving

pytestmark = pytest.mark.slow
WAIT_S = 100.0
JOBS = 20
SETTINGS = """
hardware: {enabled: false}
cache: {url: 'off'}
workers: {download: {min: 1, max: 3}}
dispatcher: {queue_check_s: 0.5, scale_up_after_s: 1, scale_down_after_s: 2, scale_cooldown_s: 1}
"""


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[RealBox]:
    box = await asyncio.to_thread(RealBox, tmp_path, SETTINGS)
    await asyncio.to_thread(box.start)
    yield box
    await asyncio.to_thread(box.stop)
    assert await asyncio.to_thread(box.leftovers) == []


async def scaled_to(feed: Feed[LiveEvent], workers: int) -> None:
    async for fact in feed:
        if isinstance(fact.event, WorkerScaled) and fact.event.after == workers:
            return


async def downloaders(bus: Bus) -> int:
    return sum(1 for state in await Registry(bus).all() if state.stage == "download")


async def test_twenty_jobs_are_one_way_up_and_one_way_down(box: RealBox) -> None:
    site = Site(data=b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(200_000), pause_after=100_000)
    async with asyncio.timeout(WAIT_S), box.bus() as bus:
        with serving(site):
            async with bus.live("evt.worker.scaled.*") as feed:
                source = JobSource(kind="url", location=site.url(), name="slow.mp4")
                jobs = {await create_job(bus, source, JobOptions()) for _ in range(JOBS)}
                await scaled_to(feed, 3)
                while await downloaders(bus) < 3:
                    await asyncio.sleep(0.1)
                await asyncio.sleep(3.0)  # work is there for many more: that none comes is the test
                assert await downloaders(bus) == 3
                site.go_on.set()
                await scaled_to(feed, 1)
        while await downloaders(bus) > 1:
            await asyncio.sleep(0.1)
        said = [fact.event for fact in await bus.read(0, "evt.worker.scaled.>")]
        steps = [(s.stage, s.before, s.after) for s in said if isinstance(s, WorkerScaled)]
        assert steps == [("download", *pair) for pair in ((1, 2), (2, 3), (3, 2), (2, 1))]
        reasons = [s.reason for s in said if isinstance(s, WorkerScaled)]
        assert "wait, the first for" in reasons[0]
        assert reasons[3].startswith("nothing waits")
        ended = {fact.event.job for fact in await bus.read(0, "evt.job.failed.>") if isinstance(fact.event, JobFailed)}
        assert ended == jobs, "each was refused for what it is, none was lost"
        assert [f for f in await bus.read(0, "evt.job.retrying.>") if isinstance(f.event, JobRetrying)] == []
        gone = [fact.event for fact in await bus.read(0, "evt.worker.offline.>")]
        assert {g.reason for g in gone if isinstance(g, WorkerOffline)} == {"retired: fewer workers are wanted"}
