"""Live facts, telemetry and the tap."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from bus.commit import Expect
from bus.connection import Bus
from bus.errors import Stale
from bus.events import UserAction
from bus.feed import TelemetrySample
from bus.ids import new_id
from bus.stored import Stored
from bus.subjects import item_filter
from bus.tap import follow, history, json_line, line
from tests.integration.bus.samples import created, planned, started
from tests.integration.conftest import NatsBox


def action(number: int) -> UserAction:
    return UserAction(user="ada", action=f"a{number}")


async def test_the_live_feed_shows_only_what_is_stored(nats: NatsBox) -> None:
    bus, reader = await nats.bus("worker"), await nats.bus("web")
    job = new_id()
    async with reader.live(f"evt.*.*.{job}.>") as clips, reader.live("evt.>") as everything:
        await bus.commit([created(job), planned(job, 1)])
        with pytest.raises(Stale):
            await bus.commit([started(job)], Expect(item_filter(job), 0))
        await bus.commit([planned(job, 2)])
        seen = [await everything.next(5) for _ in range(3)]
        assert [fact and fact.seq for fact in seen] == [1, 2, 3]
        assert await everything.next(0.05) is None
        assert [fact and fact.event.clip for fact in [await clips.next(5), await clips.next(5)]] == [1, 2]


async def test_what_a_taker_raises_costs_it_that_message_and_nothing_else(nats: NatsBox) -> None:
    bus, reader = await nats.bus("worker"), await nats.bus("web")
    taken: list[int] = []

    def take(stored: Stored) -> None:
        taken.append(stored.seq)
        if stored.seq == 2:
            raise ValueError("not this one")

    async with reader.listen("evt.>", take):
        for _ in range(3):
            await bus.publish(created(new_id()))
        while len(taken) < 3:
            await asyncio.sleep(0.005)
    async with reader.live("evt.>") as feed:
        await bus.publish(created(new_id()))
        last = await feed.next(5)
    assert last is not None
    assert last.seq == 4
    assert taken == [1, 2, 3]
    assert reader.reconnects == 0


async def test_a_taker_goes_on_after_a_restart(nats: NatsBox) -> None:
    bus, writer = await nats.bus("web"), await nats.bus("web")
    taken: list[int] = []
    async with bus.listen("evt.>", lambda stored: taken.append(stored.seq)):
        await writer.publish(action(1))
        while not taken:  # what is stored and not told yet is lost to us with the server
            await asyncio.sleep(0.005)
        await nats.restart()
        while bus.reconnects == 0:
            await asyncio.sleep(0.01)
        await writer.publish(action(2))
        while len(taken) < 2:
            await asyncio.sleep(0.005)
    assert taken == [1, 2]


async def test_a_slow_reader_loses_the_oldest_and_is_told(nats: NatsBox) -> None:
    bus = await nats.bus("web")
    async with bus.live("evt.>", max_items=3) as feed:
        for number in range(10):
            await bus.publish(action(number))
        while feed.dropped < 7:
            await asyncio.sleep(0.005)
        rest = [await feed.next(1) for _ in range(3)]
        assert [fact and fact.seq for fact in rest] == [8, 9, 10]
        assert feed.dropped == 7


async def test_a_feed_goes_on_after_a_restart(nats: NatsBox) -> None:
    bus, writer = await nats.bus("web"), await nats.bus("web")
    async with bus.live() as feed:
        await nats.restart()
        while bus.reconnects == 0:
            await asyncio.sleep(0.01)
        assert feed.reconnects == 1
        await writer.publish(action(1))
        fact = await feed.next(5)
        assert fact is not None
        assert fact.event == await _event(writer, 1)


async def _event(bus: Bus, seq: int) -> object:
    stored = await bus.get(seq)
    assert stored is not None
    return stored.event


async def test_a_feed_opened_in_an_outage_waits_for_the_server(nats: NatsBox) -> None:
    bus = await nats.bus("web")
    await nats.kill()

    async def first() -> object:
        async with bus.live() as feed:
            ready.set()
            fact = await feed.next(10)
            return fact and fact.seq

    ready = asyncio.Event()
    task = asyncio.create_task(first())
    await asyncio.sleep(0.2)
    assert not ready.is_set()
    await nats.start()
    await asyncio.wait_for(ready.wait(), 5)
    await bus.publish(action(1))
    assert await task == 1


async def test_telemetry_is_kept_for_a_while_and_never_hurts(nats: NatsBox) -> None:
    bus = await nats.bus("worker")
    async with bus.telemetry_feed("tel.progress.>") as feed:
        bus.telemetry("progress", "job1.2", {"done": 0.25})
        sample = await feed.next(5)
        assert sample is not None
        assert sample.subject == "tel.progress.job1.2"
    for number in range(600):
        bus.telemetry("progress", "job1", {"done": number})
    assert bus.telemetry_dropped >= 300
    with pytest.raises(ValueError, match="telemetry name"):
        bus.telemetry("Bad Name", "x", {})
    await nats.kill()
    bus.telemetry("progress", "job1", {"done": 1})


async def test_history_since_a_moment(nats: NatsBox) -> None:
    bus, tap = await nats.bus("web"), await nats.bus("tap")
    for number in range(3):
        await bus.publish(action(number))
    await asyncio.sleep(0.02)
    moment = datetime.now(UTC)
    for number in range(3, 300):
        await bus.publish(action(number))
    assert [stored.seq async for stored in history(tap)] == list(range(1, 301))
    assert [stored.seq async for stored in history(tap, since=moment)] == list(range(4, 301))
    assert [stored.seq async for stored in history(tap, since=timedelta(hours=1))] == list(range(1, 301))
    assert [stored async for stored in history(tap, "evt.job.>", since=moment)] == []
    assert [stored async for stored in history(tap, since=datetime.now(UTC) + timedelta(seconds=60))] == []
    with pytest.raises(ValueError, match="subject filter"):
        [stored async for stored in history(tap, "evt.>.x")]


async def test_follow_joins_history_and_live_without_hole_or_double(nats: NatsBox) -> None:
    bus, tap = await nats.bus("web"), await nats.bus("tap")
    total = 120

    async def write() -> None:
        for number in range(total):
            await bus.publish(action(number))
            if number == 60:
                await nats.restart()

    async def read() -> list[int]:
        seen: list[int] = []
        async for stored in follow(tap, since=timedelta(hours=1)):
            seen.append(stored.seq)
            if len(seen) == total:
                return seen
        return seen

    for number in range(5):
        await bus.publish(action(number))
    total += 0
    async with asyncio.timeout(30):
        reading = asyncio.create_task(read())
        await write()
        for number in range(5):
            await bus.publish(action(number))
        assert await reading == list(range(1, total + 1))


async def test_lines_for_people_and_programs(nats: NatsBox) -> None:
    bus = await nats.bus("worker")
    job = new_id()
    await bus.commit([planned(job, 1)])
    [stored] = await bus.read(0)
    text = line(stored)
    assert text.startswith("       1  ")
    assert f"clip:planned       {job}/1" in text
    assert "score=0.5" in text
    decoded = msgspec.json.decode(json_line(stored))
    assert (decoded["seq"], decoded["subject"], decoded["event"]["type"]) == (1, stored.subject, "clip:planned")


async def test_messages_keep_their_order_whichever_way_they_go(nats: NatsBox) -> None:
    """At once when nothing waits; through the library's buffer behind a subscription, a flush or a full socket."""
    bus, reader = await nats.bus("supervisor"), await nats.bus("supervisor")
    assert bus.client._tcp is not None
    write, ways = bus.client._tcp.write_at_once, {"at once": 0, "busy": 0}

    def counted(data: bytes) -> bool:
        done = write(data)
        ways["at once" if done else "busy"] += 1
        return done

    bus.client._tcp.write_at_once = counted  # type: ignore[method-assign]
    seen: list[int] = []
    everything = asyncio.Event()

    def take(sample: TelemetrySample) -> None:
        seen.append(int(sample.data.split(b" ")[0]))
        if len(seen) == count:
            everything.set()

    count, flushes = 600, []
    async with reader.listen_telemetry("tel.order.>", take):
        for number in range(count):
            await bus.wire.publish("tel.order.a", b"%d %s" % (number, b"x" * (number % 7 * 30_000)))
            if number % 50 == 20:
                await bus.client.subscribe(f"tel.other.{number}")
            if number % 90 == 30:
                flushes.append(asyncio.create_task(bus.client.flush(60)))
            if number % 120 == 40:
                await asyncio.sleep(0)
        await asyncio.gather(*flushes)
        await everything.wait()
    assert seen == list(range(count))
    assert min(ways.values()) > 0, ways
