"""A worker of the real kind obeys the ledger: nothing new while it is held, what runs is finished."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.control.ledger import Ledger, hold, release
from appliance.intake import create_job, source_of
from appliance.parent import StatusPipe
from appliance.settings import Retry
from appliance.worker.__main__ import worker_settings
from appliance.worker.loop import Worker
from bus.connection import Bus
from bus.events import AnyEvent, JobDownloading, JobFailed, JobOptions
from bus.feed import Feed, LiveEvent
from tests.integration.conftest import NatsBox

WAIT_S = 60.0


@asynccontextmanager
async def worker(nats: NatsBox) -> AsyncIterator[Worker]:
    config = Config(data_dir=nats.data_dir, retry=Retry(attempts=1))
    bus = await nats.bus("worker")
    async with Ledger(bus) as ledger:
        running = Worker(worker_settings(config, "download"), bus, StatusPipe(), ledger)
        task = asyncio.create_task(running.serve())
        try:
            yield running
        finally:
            running.stop()
            await task


async def refused_job(bus: Bus, folder: Path) -> str:
    """A job that ends quickly: its file is no video."""
    path = folder / "notes.mp4"
    await asyncio.to_thread(path.write_text, "no video")
    source = await asyncio.to_thread(source_of, str(path))
    return await create_job(bus, source, JobOptions())


async def next_of(feed: Feed[LiveEvent], job: str, *kinds: type) -> AnyEvent:
    async for fact in feed:
        if fact.event.job == job and isinstance(fact.event, kinds):
            return fact.event
    raise AssertionError("the feed ended")


async def test_a_paused_worker_takes_nothing_and_goes_on_at_once_when_it_may(nats: NatsBox, tmp_path: Path) -> None:
    bus = await nats.bus("supervisor")
    async with bus.live("evt.>") as feed, asyncio.timeout(WAIT_S), worker(nats):
        first = await refused_job(bus, tmp_path)
        await next_of(feed, first, JobDownloading)
        await hold(bus, "download", "operator", by="anna", reason="x")
        ended = await next_of(feed, first, JobFailed)
        assert isinstance(ended, JobFailed)
        assert "video" in ended.error, "what ran was finished"
        second = await refused_job(bus, tmp_path)
        other = await hold(bus, "download", "other", mode="drain", by="bert", reason="y")
        assert other
        await asyncio.sleep(1.0)  # that nothing comes is the test
        depth = (await bus.queue_depths())["download"]
        assert (depth.pending, depth.in_flight) == (1, 0), "a paused worker holds no command"
        assert len(await bus.read(0, f"evt.*.*.{second}")) == 1
        await release(bus, "download", "operator", by="anna")
        await release(bus, "download", "other", by="bert")
        started = await next_of(feed, second, JobDownloading)
        assert isinstance(started, JobDownloading)
        assert (started.attempt, started.claim) == (1, 1)
        await next_of(feed, second, JobFailed)


async def test_a_command_that_arrives_as_the_stage_is_paused_costs_no_attempt(
    nats: NatsBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = await nats.bus("supervisor")
    job = await refused_job(bus, tmp_path)
    config = Config(data_dir=nats.data_dir)
    async with asyncio.timeout(WAIT_S), Ledger(bus) as ledger, bus.work("download") as work:
        running = Worker(worker_settings(config, "download"), bus, StatusPipe(), ledger)
        with monkeypatch.context() as paused:  # between the fetch and the look at the ledger
            paused.setattr(running, "_may_work", lambda: False)
            assert await running._next(work) is None
        again = await running._next(work)
        assert again is not None
        assert (again.command.job, again.command.attempt, again.delivered) == (job, 1, 2)
        assert len(await bus.read(0, f"evt.*.*.{job}")) == 1, "nobody claimed it"
        await again.done()
