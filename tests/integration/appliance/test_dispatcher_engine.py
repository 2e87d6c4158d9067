"""The engine on a real bus and database: parallel and bounded, failures kept and tried again, nothing lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
import pytest

from appliance.dispatcher import engine
from appliance.dispatcher.actions import DISCARD, REPLAY
from appliance.dispatcher.figures import last_sample, told
from appliance.dispatcher.health import measure
from appliance.dispatcher.table import TABLE, Action
from appliance.intake import create_job
from bus.errors import BusUnavailable
from bus.events import AnyEvent, JobCancelled, JobCompleted, JobOptions, JobSource, UserAction
from bus.ids import new_id
from tests.integration.appliance.dispatching import (
    QUICK,
    Recorded,
    database,
    dispatcher,
    failures,
    stored,
    until,
)
from tests.integration.conftest import NatsBox
from tests.unit.appliance import facts

SOURCE = JobSource(kind="file", location="/v/talk.mp4", name="talk.mp4", fingerprint="f")


def cancelled(job: str | None = None) -> JobCancelled:
    """A fact with one action, `sweep_parts`."""
    return JobCancelled(job=job or new_id(), by="me")


class Fault:
    """Fails the first `times` runs, then works."""

    def __init__(self, times: int, error: Exception | None = None) -> None:
        self.times = times
        self.runs: list[str] = []
        self.error = error or OSError("the disk says no")

    async def __call__(self, event: AnyEvent) -> None:
        self.runs.append(event.id)
        if len(self.runs) <= self.times:
            raise self.error


async def acted(nats: NatsBox, seq: int) -> None:
    """Wait until the actions' cursor includes `seq`."""
    async with asyncio.timeout(10):
        while (await stored(nats))[1] < seq:
            await asyncio.sleep(0.01)


async def settled(nats: NatsBox, true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await true():
            await asyncio.sleep(0.01)


async def test_actions_of_different_jobs_run_at_once_within_the_limit_and_of_one_job_in_order(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    running_now, most, order = 0, 0, []

    async def slow(event: AnyEvent) -> None:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        await asyncio.sleep(0.05)
        order.append((event.job, event.id))
        running_now -= 1

    jobs = [new_id() for _ in range(12)]
    events = [cancelled(job) for _ in range(3) for job in jobs]
    for event in events:
        await bus.publish(event)
    settings = msgspec.structs.replace(QUICK, max_parallel_tasks=10)
    async with dispatcher(nats, settings, faults={"sweep_parts": slow}):
        await until(lambda: len(order) == len(events))
    assert most == 10
    for job in jobs:
        assert [ident for owner, ident in order if owner == job] == [e.id for e in events if e.job == job]


async def test_a_failed_action_is_tried_again_and_then_forgotten(nats: NatsBox) -> None:
    bus, fault = await nats.bus("supervisor"), Fault(2)
    async with dispatcher(nats, faults={"sweep_parts": fault}):
        seq = await bus.publish(event := cancelled())
        await until(lambda: len(fault.runs) == 3)
        await acted(nats, seq)
        await settled(nats, lambda: _none_failed(nats))
    assert fault.runs == [event.id] * 3


async def _none_failed(nats: NatsBox) -> bool:
    return await failures(nats) == []


async def test_after_the_last_attempt_it_waits_for_a_person_who_replays_it(nats: NatsBox) -> None:
    bus, cli, fault = await nats.bus("supervisor"), await nats.bus("cli"), Fault(4)
    async with dispatcher(nats, faults={"sweep_parts": fault}):
        seq = await bus.publish(event := cancelled())
        await settled(nats, lambda: _given_up(nats, 1))
        await acted(nats, seq)
        (row,) = await failures(nats)
        assert (row.event, row.action, row.type, row.job) == (event.id, "sweep_parts", "job:cancelled", event.job)
        assert (row.attempts, row.reason, len(fault.runs)) == (4, "OSError: the disk says no", 4)
        health = await measure(bus, database(nats))
        assert (health.actions_given_up, health.actions_waiting, health.lag_events) == (1, 0, 0)
        assert health.reasons == ["1 actions failed for good: look at `appliance events failed`"]
        await cli.publish(UserAction(user="me", action=REPLAY, target=row.target))
        await settled(nats, lambda: _none_failed(nats))
    assert len(fault.runs) == 5


async def _given_up(nats: NatsBox, count: int) -> bool:
    return [row.next_try_at for row in await failures(nats)] == [None] * count


async def test_a_replay_asked_for_while_the_dispatcher_is_away_is_done_when_it_is_back(nats: NatsBox) -> None:
    bus, fault = await nats.bus("supervisor"), Fault(8)
    async with dispatcher(nats, faults={"sweep_parts": fault}):
        for count in (1, 2):
            await bus.publish(cancelled())
            await settled(nats, partial(_given_up, nats, count))
    await bus.publish(UserAction(user="me", action=REPLAY, target="all"))
    async with dispatcher(nats) as running:
        await settled(nats, lambda: _none_failed(nats))
        ran = [action for _, action in running.ran]
        assert (ran.count("replay_failed"), ran.count("sweep_parts")) == (1, 2)


async def test_it_tells_what_it_counts_of_itself(nats: NatsBox) -> None:
    bus, fault = await nats.bus("supervisor"), Fault(1)
    async with bus.telemetry_feed("tel.dispatcher.box") as feed, dispatcher(nats, faults={"sweep_parts": fault}):
        last = [await bus.publish(cancelled()) for _ in range(3)][-1]
        async with asyncio.timeout(10):
            while True:
                assert await feed.next(5) is not None
                sample = await last_sample(bus)
                if sample is not None and (sample.invalidated.count, sample.actions["sweep_parts"].done) == (3, 3):
                    break
    assert (sample.seq, sample.events, sample.lag_events, sample.lag_s, sample.actions_open) == (last, 3, 0, 0.0, 0)
    sweeping = sample.actions["sweep_parts"]
    assert (sweeping.running, sweeping.failed, sweeping.breaker) == (0, 1, "closed")
    each = len(TABLE["job:cancelled"].actions)
    assert (sample.written.count, sample.invalidated.count, sample.acted.count) == (3, 3, 3 * each)
    assert sample.cache.invalidations >= 1
    assert told(sample)["delays_ms"].keys() == {"written", "cache invalidated", "action begun"}


async def test_what_is_discarded_is_not_tried_again(nats: NatsBox) -> None:
    bus, fault = await nats.bus("supervisor"), Fault(99)
    async with dispatcher(nats, faults={"sweep_parts": fault}):
        await bus.publish(cancelled())
        await settled(nats, lambda: _given_up(nats, 1))
        await bus.publish(UserAction(user="me", action=DISCARD, target="all"))
        await settled(nats, lambda: _none_failed(nats))
    assert len(fault.runs) == 4


async def test_an_action_without_end_is_a_failed_one_and_the_others_go_on(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    stuck, done = new_id(), asyncio.Event()

    async def hang(event: AnyEvent) -> None:
        if event.job == stuck:
            await asyncio.Event().wait()
        done.set()

    settings = msgspec.structs.replace(QUICK, event_timeout_s=0.2, max_retries=0)
    async with dispatcher(nats, settings, faults={"sweep_parts": hang}):
        await bus.publish(cancelled(stuck))
        await bus.publish(cancelled())
        async with asyncio.timeout(5):
            await done.wait()
        await settled(nats, lambda: _given_up(nats, 1))
        (row,) = await failures(nats)
        assert (row.job, row.reason) == (stuck, "not done after 0.2 s")


async def test_failures_in_a_row_open_the_breaker_and_what_was_put_off_is_made_up(nats: NatsBox) -> None:
    bus, fault = await nats.bus("supervisor"), Fault(5)
    settings = msgspec.structs.replace(QUICK, max_parallel_tasks=1, recovery_timeout_s=3.0)
    events = [cancelled() for _ in range(20)]
    for event in events:
        seq = await bus.publish(event)
    async with dispatcher(nats, settings, faults={"sweep_parts": fault}):
        await acted(nats, seq)
        opened_after = len(fault.runs)
        put_off = [row for row in await failures(nats) if row.attempts == 0]
        assert opened_after == 5, "the sixth was not even tried"
        assert len(put_off) == 15
        assert {row.reason for row in put_off} == {"put off: sweep_parts failed 5 times in a row"}
        assert all(row.next_try_at is not None for row in put_off)
        began = time.monotonic()
        await settled(nats, lambda: _none_failed(nats))
        assert time.monotonic() - began < 5
    assert set(fault.runs) == {event.id for event in events}


async def test_the_bus_away_counts_no_attempt(nats: NatsBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUS_AGAIN_S", 0.1)
    bus = await nats.bus("supervisor")
    fault = Fault(2, BusUnavailable("no answer"))
    async with dispatcher(nats, faults={"sweep_parts": fault}):
        seq = await bus.publish(cancelled())
        await until(lambda: len(fault.runs) == 3)
        assert await failures(nats) == []
        await acted(nats, seq)


async def test_a_job_completes_over_an_outage_of_the_bus_in_its_action(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    reached = asyncio.Event()

    async def held(running: Recorded, event: AnyEvent) -> None:
        reached.set()
        await running_handlers["complete_job"](event)

    async with dispatcher(nats) as running:
        running_handlers = super(Recorded, running).handlers()
        running.faults["complete_job"] = lambda event: held(running, event)
        job = await create_job(bus, SOURCE, JobOptions())
        for event in (facts.done(job, "moments"), facts.planned(job, 1)):
            await bus.publish(event)
        await reached.wait()
        reached.clear()
        await bus.publish(facts.done(job, "cut", 1))
        await reached.wait()
        await nats.kill()
        await asyncio.sleep(1.5)  # longer than an action may take
        await nats.start()
        async with asyncio.timeout(20):
            while not isinstance((last := await bus.last_fact(job)) and last.event, JobCompleted):
                await asyncio.sleep(0.05)
        assert await failures(nats) == []


async def test_killed_in_the_middle_no_action_is_lost(nats: NatsBox) -> None:
    """The dispatcher is ended at forty different moments; each action still runs, and the cursor ends behind all."""
    bus = await nats.bus("supervisor")
    done: list[str] = []
    broken: set[str] = set()

    async def sometimes(event: AnyEvent) -> None:
        await asyncio.sleep(0.002)
        if event.id in broken:
            broken.discard(event.id)
            raise OSError("once")
        done.append(event.id)

    events = [cancelled() for _ in range(150)]
    broken.update(event.id for event in events[::7])
    for event in events:
        seq = await bus.publish(event)
    faults: dict[Action, Callable[[AnyEvent], Awaitable[object]]] = {"sweep_parts": sometimes}
    for round_ in range(40):
        if len(set(done)) == len(events):
            break
        async with dispatcher(nats, faults=faults):
            await asyncio.sleep(0.004 * (1 + round_ % 7))
    async with dispatcher(nats, faults=faults):
        await acted(nats, seq)
        await settled(nats, lambda: _none_failed(nats))
    assert set(done) == {event.id for event in events}


async def test_more_than_can_be_handed_over_is_read_from_the_database(
    nats: NatsBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small window and hand-over, batches of another size: each action runs once, and the cursor arrives."""
    monkeypatch.setattr(engine, "WINDOW", 7)
    monkeypatch.setattr(engine, "MAX_FRESH", 2)
    bus, done = await nats.bus("supervisor"), Fault(0)
    settings = msgspec.structs.replace(QUICK, batch_events=5)
    async with dispatcher(nats, settings, faults={"sweep_parts": done}):
        events = [cancelled() if number % 3 else facts.started(new_id(), "cut", 1) for number in range(200)]
        for start in range(0, len(events), 20):
            await asyncio.gather(*(bus.publish(event) for event in events[start : start + 20]))
        seq = await bus.publish(cancelled())
        await acted(nats, seq)
    assert len(done.runs) == len(set(done.runs)) == 1 + sum(isinstance(event, JobCancelled) for event in events)
