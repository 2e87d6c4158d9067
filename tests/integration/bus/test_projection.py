"""Reading all facts in order: resuming, waking, gaps, epochs."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from bus import projection
from bus.connection import Bus
from bus.errors import Gap, NewEpoch
from bus.events import UserAction
from bus.ids import new_id
from bus.projection import FactReader
from bus.provision import provision
from bus.streams import EVENTS, Limits
from tests.integration.bus.samples import created, download
from tests.integration.conftest import NatsBox, nats_box


async def publish(bus: Bus, count: int, size: int = 1) -> list[int]:
    return [await bus.publish(UserAction(user="u" * size, action="a")) for _ in range(count)]


async def test_reading_resumes_behind_the_cursor(nats: NatsBox) -> None:
    bus = await nats.bus("web")
    await publish(bus, 50)
    async with FactReader(bus, 0) as reader:
        first = await reader.batch(20)
        epoch = reader.epoch
    async with FactReader(bus, first[-1].seq, epoch=epoch) as reader:
        rest = await reader.batch(100)
        assert await reader.batch(wait_s=0) == []
    assert [fact.seq for fact in first + rest] == list(range(1, 51))
    assert first[0].event.__struct_config__.tag == "user:action"


async def test_a_new_fact_wakes_the_reader(nats: NatsBox) -> None:
    bus, other = await nats.bus("dispatcher"), await nats.bus("web")
    async with FactReader(bus, 0) as reader:
        assert await reader.batch(wait_s=0.1) == []
        waiting = asyncio.create_task(reader.batch(wait_s=10))
        await asyncio.sleep(0.1)
        started = time.monotonic()
        await publish(other, 1)
        [fact] = await waiting
        assert time.monotonic() - started < 1
        assert fact.seq == 1


async def test_no_fact_is_slept_through(nats: NatsBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The net under the wake-up is taken away: whatever the moment of a publish, the reader is woken or reads it."""
    monkeypatch.setattr(projection, "_CHECK_EVERY_S", 60.0)
    bus, other = await nats.bus("dispatcher"), await nats.bus("web")
    dice = random.Random(1)

    async def publishing() -> None:
        for _ in range(300):
            await asyncio.sleep(dice.choice((0.0, 0.0, 0.001, 0.003)))
            await publish(other, dice.choice((1, 1, 2)))

    seen: list[int] = []
    async with FactReader(bus, 0) as reader:
        task = asyncio.create_task(publishing())
        while not task.done() or len(seen) < (await bus.stream_state()).last_seq:
            facts = await reader.batch(dice.choice((1, 2, 64)), wait_s=5)
            assert facts or task.done(), "slept through a fact"
            seen += [fact.seq for fact in facts]
            await asyncio.sleep(dice.choice((0.0, 0.002)))
        await task
    assert seen == list(range(1, len(seen) + 1))
    assert len(bus.client._subs) == 1, "only the inbox is left"


async def test_the_largest_batch(nats: NatsBox) -> None:
    bus = await nats.bus("dispatcher")
    for _ in range(3):
        await bus.commit([created(new_id()) for _ in range(500)])
    seen = 0
    async with FactReader(bus, 0) as reader:
        while facts := await reader.batch(1024, wait_s=0):
            seen += len(facts)
            assert (facts[-1].seq, reader.position) == (seen, seen)
    assert seen == 1500


async def test_idle_position_moves_past_commands(nats: NatsBox) -> None:
    bus = await nats.bus("dispatcher")
    job = new_id()
    await bus.commit([created(job), download(job)])
    async with FactReader(bus, 0) as reader:
        assert [fact.seq for fact in await reader.batch()] == [1]
        reader._unchecked = True
        assert await reader.batch(wait_s=0) == []
        assert reader.position == 2
    async with FactReader(bus, 2) as reader:
        assert await reader.batch(wait_s=0) == []


async def test_facts_that_were_dropped_unread_are_a_gap(tmp_path: Path) -> None:
    small = Limits(events_max_bytes=64 * 1024)
    async with nats_box(tmp_path, small) as nats:
        bus = await nats.bus("dispatcher")
        await publish(bus, 5)
        async with FactReader(bus, 0) as reader:
            assert len(await reader.batch(2)) == 2
            await publish(bus, 40, size=4_000)  # the cap drops the oldest, ours among them
            with pytest.raises(Gap, match="rebuild") as gap:
                await reader.batch()
            first = (await bus.stream_state()).first_seq
            assert (gap.value.after_seq, gap.value.first_seq) == (2, first)
        async with FactReader(bus, first - 1) as reader:
            assert (await reader.batch(1))[0].seq == first


async def test_commands_removed_between_facts_are_no_gap(nats: NatsBox) -> None:
    bus = await nats.bus("dispatcher")
    job = new_id()
    await bus.commit([created(job), download(job), created(new_id())])
    await bus.purge_commands(job, 4)
    async with FactReader(bus, 0) as reader:
        assert [fact.seq for fact in await reader.batch()] == [1, 3]


async def test_a_stream_made_anew_is_a_new_epoch(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    await publish(bus, 3)
    async with FactReader(bus, 0) as reader:
        assert len(await reader.batch()) == 3
        epoch = reader.epoch
    await bus.jetstream.delete_stream(EVENTS)
    await provision(bus.jetstream)
    await publish(bus, 5)
    async with FactReader(bus, 3, epoch=epoch) as reader:
        with pytest.raises(NewEpoch, match="created anew"):
            await reader.batch(wait_s=0)
    async with FactReader(bus, 9) as reader:
        with pytest.raises(NewEpoch, match="ahead"):
            await reader.batch(wait_s=0)


async def test_reading_is_fast_enough_to_rebuild(nats: NatsBox) -> None:
    """Not a benchmark: a bound that only a wrong access path (one round trip a fact) would break."""
    bus = await nats.bus("cli")
    jobs = [new_id() for _ in range(8)]
    for _ in range(4):
        for job in jobs:
            await bus.commit([created(job) for _ in range(60)])
    async with FactReader(bus, 0) as reader:
        started, seen = time.monotonic(), 0
        while facts := await reader.batch(512, wait_s=0):
            seen += len(facts)
    assert seen == 1920
    assert seen / (time.monotonic() - started) > 1_500
