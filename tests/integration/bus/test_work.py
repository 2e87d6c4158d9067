"""Taking work: heartbeats, giving back, dead consumers, cancelled waits."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from bus.connection import Bus
from bus.events import Command
from bus.ids import new_id
from bus.streams import EVENTS, Limits
from tests.integration.bus.samples import created, download
from tests.integration.conftest import NatsBox, nats_box

QUICK = Limits(ack_wait_s=1.0, heartbeat_s=0.3)


async def queue_up(bus: Bus, count: int = 1) -> list[str]:
    jobs = [new_id() for _ in range(count)]
    for job in jobs:
        await bus.commit([created(job), download(job)])
    return jobs


async def test_heartbeats_keep_a_command_and_silence_gives_it_away(tmp_path: Path) -> None:
    """Also trap 17: what counts is the heartbeat, and it comes from the loop, not from the work."""
    async with nats_box(tmp_path, QUICK) as nats:
        one, two = await nats.bus("worker"), await nats.bus("worker")
        [job] = await queue_up(one)
        async with one.work("download", QUICK) as mine, two.work("download", QUICK) as theirs:
            held = await mine.next(2)
            assert held is not None
            waiting = asyncio.create_task(theirs.next(6))
            for _ in range(8):
                await asyncio.sleep(0.3)
                await held.heartbeat()
            assert not waiting.done()
            taken = await waiting
            assert taken is not None
            assert (taken.command.job, taken.delivered) == (job, 2)
            assert await taken.done()
            assert await held.done()  # late and harmless


async def test_release_hands_over_at_once(nats: NatsBox) -> None:
    one, two = await nats.bus("worker"), await nats.bus("worker")
    [job] = await queue_up(one)
    async with one.work("download") as mine, two.work("download") as theirs:
        held = await mine.next(2)
        assert held is not None
        await held.release()
        started = time.monotonic()
        taken = await theirs.next(5)
        assert taken is not None
        assert taken.command.job == job
        assert time.monotonic() - started < 1
        await taken.done()


async def test_a_cancelled_wait_loses_no_command(nats: NatsBox) -> None:
    """Trap 6: the command must not land with somebody who is gone and wait out ack_wait (8 s)."""
    one, two = await nats.bus("worker"), await nats.bus("worker")
    async with one.work("download") as mine:
        waiting = asyncio.create_task(mine.next(30))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        [job] = await queue_up(two)
        await asyncio.sleep(0.1)
        started = time.monotonic()
        held = await mine.next(5)
        assert held is not None
        assert (held.command.job, held.delivered) == (job, 1)
        assert time.monotonic() - started < 1
        await held.done()
        waiting = asyncio.create_task(mine.next(30))
        await asyncio.sleep(0.1)
        waiting.cancel()
    [job] = await queue_up(two)
    async with two.work("download") as theirs:
        started = time.monotonic()
        held = await theirs.next(5)
        assert held is not None
        assert held.command.job == job
        assert time.monotonic() - started < 1
        await held.done()


async def test_leaving_gives_back_what_has_arrived(nats: NatsBox) -> None:
    one, two = await nats.bus("worker"), await nats.bus("worker")
    async with one.work("download") as mine:
        waiting = asyncio.create_task(mine.next(30))
        await asyncio.sleep(0.1)
        waiting.cancel()
        [job] = await queue_up(two)
        await asyncio.sleep(0.1)
    async with two.work("download") as theirs:
        started = time.monotonic()
        held = await theirs.next(5)
        assert held is not None
        assert held.command.job == job
        assert time.monotonic() - started < 1
        await held.done()


async def test_a_deleted_consumer_is_made_again_while_waiting(nats: NatsBox) -> None:
    """Traps 8 and 16: the wait notices the deletion; the new durable replays history, which the protocol bears."""
    admin, bus = await nats.bus("supervisor"), await nats.bus("worker")
    [spent] = await queue_up(bus)
    async with bus.work("download") as work:
        delivery = await work.next(5)
        assert delivery is not None
        assert await delivery.done()
        waiting = asyncio.create_task(work.next(10))
        await asyncio.sleep(0.1)
        await admin.jetstream.delete_consumer(EVENTS, "download")
        replayed = await waiting
        assert replayed is not None
        assert replayed.command.job == spent
        assert await replayed.done()
        await admin.jetstream.delete_consumer(EVENTS, "download")
        [fresh] = await queue_up(bus)
        jobs = []
        while (delivery := await work.next(2)) is not None:
            jobs.append(delivery.command.job)
            await delivery.done()
        assert jobs == [spent, fresh]


async def test_commands_that_cannot_be_read_are_rejected_and_skipped(nats: NatsBox) -> None:
    admin, bus = await nats.bus("supervisor"), await nats.bus("worker")
    await admin.wire.request("cmd.download.junk", b"{not json", timeout_s=2)
    await admin.wire.request("cmd.download.junk", msgspec.json.encode({"stage": "nope", "job": "x"}), timeout_s=2)
    [job] = await queue_up(bus)
    async with bus.work("download") as work:
        delivery = await work.next(5)
        assert delivery is not None
        assert delivery.command.job == job
        await delivery.done()
    depth = (await bus.queue_depths())["download"]
    assert (depth.pending, depth.in_flight) == (0, 0)


async def test_each_command_goes_to_one_worker(nats: NatsBox) -> None:
    bus = await nats.bus("worker")
    jobs = await queue_up(bus, 24)
    done: list[str] = []

    async def worker() -> None:
        own = await nats.bus("worker")
        async with own.work("download") as work:
            while (delivery := await work.next(0.6)) is not None:
                assert delivery.delivered == 1
                done.append(delivery.command.job)
                assert await delivery.done()

    await asyncio.gather(*(worker() for _ in range(4)))
    assert sorted(done) == sorted(jobs)


async def test_a_worker_keeps_one_subscription_and_leaves_none(nats: NatsBox) -> None:
    """Trap 12: one for each `next` would pile up."""
    bus = await nats.bus("worker")
    subscriptions = bus.client._subs
    before = len(subscriptions)
    async with bus.work("cut") as work:
        for _ in range(10):
            await work.next(0.1)
        assert len(subscriptions) == before + 1
    assert len(subscriptions) == before


async def test_waiting_is_quiet(nats: NatsBox) -> None:
    """An idle worker sends one pull request for its whole wait."""
    bus = await nats.bus("worker")
    async with bus.work("cut") as work:
        sent = bus.client.stats["out_msgs"]
        assert await work.next(1.5) is None
        assert bus.client.stats["out_msgs"] - sent == 1


async def test_scheduled_in_the_past_comes_at_once(nats: NatsBox) -> None:
    bus = await nats.bus("worker")
    job = new_id()
    late = msgspec.structs.replace(download(job), not_before=created(job).ts)
    assert isinstance(late, Command)
    await bus.commit([created(job), late])
    async with bus.work("download") as work:
        delivery = await work.next(5)
        assert delivery is not None
        assert delivery.command == late
        await delivery.done()
