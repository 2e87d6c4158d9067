"""The control ledger on a real bus: said once, followed live, over by itself, kept past the stream's memory."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from appliance.control.keeper import Keeper
from appliance.control.ledger import Ledger, hold, last_words, read_holds, release
from appliance.errors import IntakeClosed
from appliance.intake import create_job
from bus.connection import Bus
from bus.errors import Denied
from bus.events import ControlChanged, JobOptions, JobSource
from bus.provision import provision
from bus.stored import Stored
from tests.integration.appliance.dispatching import dispatcher
from tests.integration.conftest import NatsBox

SOURCE = JobSource(kind="file", location="/v/talk.mp4", name="talk.mp4")
WAIT_S = 20.0


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def count(bus: Bus) -> int:
    return len(await bus.read(0, "evt.control.changed.>"))


async def test_the_same_is_said_once_and_each_holder_has_its_own_word(nats: NatsBox) -> None:
    bus = await nats.bus("cli")
    assert await hold(bus, "cut", "operator", by="anna", reason="new card")
    assert not await hold(bus, "cut", "operator", by="anna", reason="new card")
    assert await hold(bus, "cut", "operator", mode="drain", by="anna", reason="new card")
    assert await hold(bus, "cut", "alert-gpu", by="monitor", reason="hot")
    assert [(word.holder, word.mode) for word in await read_holds(bus, "cut")] == [
        ("operator", "drain"),
        ("alert-gpu", "pause"),
    ]
    assert await read_holds(bus, "intake") == []
    assert await release(bus, "cut", "operator", by="bert")
    assert not await release(bus, "cut", "operator", by="bert")
    assert not await release(bus, "cut", "storage", by="bert")
    assert [word.holder for word in await read_holds(bus)] == ["alert-gpu"]
    assert await count(bus) == 4


async def test_two_who_say_the_same_at_once_say_it_once(nats: NatsBox) -> None:
    buses = [await nats.bus("cli") for _ in range(4)]
    said = await asyncio.gather(*(hold(bus, "cut", "operator", by="anna", reason="x") for bus in buses))
    assert sorted(said) == [False, False, False, True]
    assert await count(buses[0]) == 1


async def test_a_hold_that_could_not_be_is_refused(nats: NatsBox) -> None:
    bus = await nats.bus("cli")
    for until in (soon(-1), datetime(2099, 1, 1)):  # noqa: DTZ001 - that is what is refused
        with pytest.raises(ValueError, match="future"):
            await hold(bus, "cut", "operator", by="anna", reason="", until=until)
    assert await count(bus) == 0


async def test_a_ledger_follows_and_wakes_when_the_last_hold_ends_or_is_over(nats: NatsBox) -> None:
    bus = await nats.bus("cli")
    await hold(bus, "cut", "operator", by="anna", reason="before")
    async with Ledger(await nats.bus("worker")) as ledger, asyncio.timeout(WAIT_S):
        assert ledger.mode("cut") == "pause"
        running = asyncio.create_task(ledger.until_running("cut"))
        await hold(bus, "cut", "alert-gpu", mode="drain", by="m", reason="hot", until=soon(1.0))
        assert await ledger.until("cut", "drain") == "drain"
        await release(bus, "cut", "operator", by="anna")
        await running
        assert ledger.holds() == []
        words = await last_words(bus, "evt.control.changed.cut.alert-gpu")
        assert words[0].until is not None
        assert datetime.now(UTC) >= words[0].until, "it ran before the hold was over"


async def test_what_was_said_in_an_outage_is_known_after_it(nats: NatsBox) -> None:
    bus, other = await nats.bus("worker"), await nats.bus("cli")
    async with Ledger(bus) as ledger, asyncio.timeout(WAIT_S):
        await hold(other, "cut", "operator", by="anna", reason="x")
        await ledger.until("cut", "pause")
        await nats.kill()
        assert ledger.mode("cut") == "pause", "the last known holds stand"
        await nats.start()
        await release(other, "cut", "operator", by="anna")
        await hold(other, "faces", "operator", by="anna", reason="x")
        await ledger.until("cut", "run")
        await ledger.until("faces", "pause")


async def test_an_answer_that_cannot_be_read_does_not_end_the_following(
    nats: NatsBox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bus, other = await nats.bus("worker"), await nats.bus("cli")
    monkeypatch.setattr("appliance.control.ledger.NET_AGAIN_S", 0.1)
    async with Ledger(bus) as ledger, asyncio.timeout(WAIT_S):
        read, again = bus.last_facts, asyncio.Event()

        async def answer(subject_filter: str) -> list[Stored]:
            again.set()
            return await read(subject_filter)

        async def refuse_once(_subject_filter: str) -> list[Stored]:
            monkeypatch.setattr(bus, "last_facts", answer)
            raise Denied("worker may not read the ledger")

        monkeypatch.setattr(bus, "last_facts", refuse_once)
        await nats.restart()
        await again.wait()
        await hold(other, "cut", "operator", by="anna", reason="x")
        await ledger.until("cut", "pause")
    assert "worker may not read the ledger" in caplog.text


async def test_a_stream_that_was_lost_says_what_stands(nats: NatsBox) -> None:
    admin = await nats.bus("supervisor")
    for _ in range(3):
        await hold(admin, "cut", "operator", by="anna", reason="x")
        await release(admin, "cut", "operator", by="anna")
    await hold(admin, "cut", "operator", by="anna", reason="x")
    async with Ledger(await nats.bus("worker")) as ledger, asyncio.timeout(WAIT_S):
        assert ledger.mode("cut") == "pause"
        await admin.jetstream.delete_stream("EVENTS")
        await provision(admin.jetstream)
        await hold(admin, "faces", "operator", by="anna", reason="x")
        await nats.restart()
        await ledger.until("cut", "run")
        assert [word.target for word in ledger.holds()] == ["faces"]


async def test_jobs_are_refused_while_intake_is_held_with_who_why_and_until_when(nats: NatsBox) -> None:
    bus = await nats.bus("cli")
    until = soon(3600)
    await hold(bus, "intake", "storage", by="storage", reason="3 GB free, 20 GB needed", until=until)
    told = rf"paused by storage until {until:%Y-%m-%d %H:%M} UTC: 3 GB free, 20 GB needed"
    with pytest.raises(IntakeClosed, match=told):
        await create_job(bus, SOURCE, JobOptions())
    async with Ledger(bus) as ledger:
        with pytest.raises(IntakeClosed, match=told):
            await create_job(bus, SOURCE, JobOptions(), ledger=ledger)
    assert await bus.read(0, "evt.job.>") == []
    assert await bus.read(0, "cmd.>") == []
    await release(bus, "intake", "storage", by="storage")
    await create_job(bus, SOURCE, JobOptions())


async def test_the_dispatcher_says_that_a_hold_is_over(nats: NatsBox) -> None:
    bus = await nats.bus("cli")
    async with bus.live("evt.control.>") as feed, dispatcher(nats), asyncio.timeout(WAIT_S):
        await hold(bus, "cut", "operator", by="anna", reason="x", until=soon(1.0))
        await hold(bus, "faces", "operator", by="anna", reason="x")
        said = []
        async for fact in feed:
            assert isinstance(fact.event, ControlChanged)
            said.append(fact.event)
            if fact.event.mode == "run":
                break
    assert [(word.target, word.mode, word.by) for word in said] == [
        ("cut", "pause", "anna"),
        ("faces", "pause", "anna"),
        ("cut", "run", "dispatcher"),
    ]


async def test_a_standing_hold_is_said_again_unchanged_before_the_stream_forgets_it(nats: NatsBox) -> None:
    bus = await nats.bus("dispatcher")
    await hold(bus, "cut", "operator", mode="drain", by="anna", reason="x", until=soon(3600))
    await hold(bus, "faces", "operator", by="anna", reason="x")
    await release(bus, "faces", "operator", by="anna")
    before = await read_holds(bus)
    keeper = Keeper(bus, by="dispatcher", max_age_s=3600, max_bytes=10**9)
    await keeper.keep()
    assert await read_holds(bus) == before, "it is young"
    await Keeper(bus, by="dispatcher", max_age_s=0, max_bytes=10**9).keep()
    (again,) = await read_holds(bus)
    assert again.seq > before[0].seq
    assert [str(again), again.until] == [str(before[0]), before[0].until]
    assert await count(bus) == 4, "an end needs no keeping"
