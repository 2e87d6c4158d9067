"""The protocol of the appliance on a real server: start fact, result, retry, duplicate, zombie."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from bus.commit import Committed, Expect
from bus.errors import Stale
from bus.events import (
    Command,
    JobCreated,
    JobDownloaded,
    JobDownloading,
    JobRetrying,
    JobSource,
)
from bus.ids import new_id
from bus.projection import FactReader
from bus.subjects import item_filter
from tests.integration.conftest import NatsBox


def created(job: str) -> JobCreated:
    return JobCreated(job=job, origin=JobSource(kind="file", location="/v.mp4", name="v.mp4"))


def started(job: str, attempt: int = 1, worker: str = "w1") -> JobDownloading:
    return JobDownloading(job=job, stage="download", attempt=attempt, worker=worker)


def downloaded(job: str, attempt: int = 1, worker: str = "w1") -> JobDownloaded:
    return JobDownloaded(
        job=job,
        attempt=attempt,
        worker=worker,
        seconds=1.0,
        path="source.mp4",
        size_bytes=1,
        sha256="0" * 64,
        duration_s=1.0,
        width=16,
        height=16,
        fps=25.0,
        video_codec="h264",
        audio_codec=None,
    )


def retrying(job: str, in_s: float, attempt: int = 1) -> tuple[JobRetrying, Command]:
    at = datetime.now(UTC) + timedelta(seconds=in_s)
    fact = JobRetrying(job=job, stage="download", attempt=attempt, error="boom", code="x", next_try_at=at)
    return fact, Command(stage="download", job=job, attempt=attempt + 1, not_before=at)


async def test_a_stage_from_command_to_done(nats: NatsBox) -> None:
    job = new_id()
    web = await nats.bus("web")
    worker = await nats.bus("worker")
    intake = await web.commit([created(job), Command(stage="download", job=job)], Expect(item_filter(job), 0))
    assert intake == Committed(1, 2)
    async with worker.work("download") as work:
        delivery = await work.next(5)
        assert delivery is not None
        assert (delivery.command.job, delivery.seq, delivery.delivered) == (job, 2, 1)
        fact = await worker.last_fact(job)
        assert fact is not None
        assert (fact.seq, fact.event.job) == (1, job)
        lease = await worker.commit([started(job)], Expect(item_filter(job), fact.seq))
        await delivery.heartbeat()
        done = await worker.commit(
            [downloaded(job), Command(stage="transcribe", job=job)], Expect(item_filter(job), lease.first)
        )
        assert done == Committed(4, 5)
        assert await delivery.done()
        assert await work.next(0.3) is None
    depths = await worker.queue_depths()
    assert (depths["download"].pending, depths["download"].in_flight) == (0, 0)
    assert depths["transcribe"].pending == 1
    assert depths["transcribe"].oldest_s is not None
    async with FactReader(worker, 0) as reader:
        facts = await reader.batch(wait_s=2)
    assert [fact.event.__struct_config__.tag for fact in facts] == ["job:created", "job:downloading", "job:downloaded"]
    assert [fact.seq for fact in facts] == [1, 3, 4]


async def test_a_zombie_a_cancel_and_a_duplicate_delivery_lose(nats: NatsBox) -> None:
    job = new_id()
    bus = await nats.bus("dispatcher")
    await bus.commit([created(job)], Expect(item_filter(job), 0))
    first = await bus.commit([started(job, worker="w1")], Expect(item_filter(job), 1))
    second = await bus.commit([started(job, worker="w2")], Expect(item_filter(job), first.first))
    with pytest.raises(Stale) as stale:
        await bus.commit([downloaded(job), Command(stage="transcribe", job=job)], Expect(item_filter(job), first.first))
    assert stale.value.current == second.first
    assert (await bus.queue_depths())["transcribe"].pending == 0


async def test_a_retry_is_scheduled_in_the_same_commit(nats: NatsBox) -> None:
    job = new_id()
    bus = await nats.bus("worker")
    await bus.commit([created(job)])
    fact, command = retrying(job, in_s=1.0)
    await bus.commit([fact, command], Expect(item_filter(job), 1))
    assert (await bus.queue_depths())["download"].pending == 0
    async with bus.work("download") as work:
        started_at = asyncio.get_running_loop().time()
        delivery = await work.next(8)
        assert delivery is not None
        assert delivery.command == command
        assert 0.5 < asyncio.get_running_loop().time() - started_at < 6
        assert await delivery.done()
