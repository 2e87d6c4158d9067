"""The protocol of the appliance on a real server: start fact, result, retry, duplicate, zombie."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from bus.commit import Committed, Expect
from bus.errors import Stale
from bus.events import Command, JobRetrying
from bus.ids import new_id
from bus.projection import FactReader
from bus.subjects import item_filter
from tests.integration.bus.samples import created, downloaded, planned, retrying, started
from tests.integration.conftest import NatsBox


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


async def test_clips_have_a_history_of_their_own(nats: NatsBox) -> None:
    job = new_id()
    bus = await nats.bus("worker")
    first = created(job)
    await bus.commit([first])
    one, two = planned(job, 1), planned(job, 2)
    await bus.commit([one, two, Command(stage="faces", job=job, clip=1)])
    assert [(await bus.last_fact(job, clip)) is None for clip in (None, 1, 2, 3)] == [False, False, False, True]
    last = await bus.last_fact(job, 2)
    assert last is not None
    retry = JobRetrying(job=job, clip=2, stage="cut", attempt=1, error="e", code="c", next_try_at=datetime.now(UTC))
    await bus.commit([retry], Expect(item_filter(job, 2), last.seq))
    facts = [await bus.last_fact(job, clip) for clip in (None, 1, 2)]
    assert [fact.message_id for fact in facts if fact is not None] == [first.id, one.id, retry.id]


async def test_purge_takes_queued_and_scheduled_commands_of_one_job_only(nats: NatsBox) -> None:
    job, other = new_id(), new_id()
    bus = await nats.bus("dispatcher")
    _, later = retrying(job, in_s=60)
    clip_later = Command(stage="cut", job=job, clip=2, not_before=later.not_before)
    await bus.commit(
        [
            created(job),
            Command(stage="download", job=job),
            Command(stage="faces", job=job, clip=1),
            later,
            clip_later,
            Command(stage="download", job=other),
        ]
    )
    end = (await bus.stream_state()).last_seq + 1
    assert await bus.purge_commands(job, end) == 4
    depths = await bus.queue_depths()
    assert (depths["download"].pending, depths["faces"].pending) == (1, 0)
    assert await bus.purge_commands(job, end) == 0
    assert [fact.event.job for fact in await bus.read(0)] == [job]


async def test_purge_leaves_what_was_queued_since(nats: NatsBox) -> None:
    """A retry that overtakes the purge of the cancel before it must not lose its work."""
    job = new_id()
    bus = await nats.bus("dispatcher")
    queued = await bus.commit([created(job), Command(stage="download", job=job)])
    _, later = retrying(job, in_s=60)
    again = await bus.commit([Command(stage="moments", job=job), later])
    assert await bus.purge_commands(job, again.first) == 1
    assert (await bus.queue_depths())["download"].pending == 0
    assert await bus.get(queued.last) is None
    assert await bus.get(again.first) is not None
    assert await bus.get(again.last) is not None
