"""The watches on a real bus: workers that vanish, ghosts, who is missing, and queues that grow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from appliance.control.frozen import FrozenWatch
from appliance.dispatcher import workers as watching
from bus.connection import Bus
from bus.events import (
    AlertCleared,
    AlertRaised,
    AnyEvent,
    Command,
    QueueThreshold,
    StageName,
    WorkerOffline,
    WorkerOnline,
)
from bus.feed import Feed, LiveEvent
from bus.ids import new_id
from bus.registry import Registry, WorkerState
from bus.streams import Limits
from tests.integration.appliance.dispatching import QUICK, dispatcher
from tests.integration.conftest import NatsBox, nats_box

TTL_S = 1.0


@pytest.fixture
async def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NatsBox]:
    """A server whose registry forgets after a second, and a watch whose times fit that."""
    for name, value in (
        ("SETTLE_S", 1.3),
        ("ALIVE_AFTER_S", 1.3),
        ("LOOK_S", 0.1),
        ("FROZEN_LOOK_S", 0.1),
    ):
        monkeypatch.setattr(watching, name, value)
    async with nats_box(tmp_path, Limits(worker_ttl_s=TTL_S)) as box:
        yield box


def state(worker: str, stage: StageName = "cut") -> WorkerState:
    return WorkerState(worker=worker, stage=stage, pid=1, host="far", started_at=datetime.now(UTC))


class Worker:
    """A worker of another machine: a fact when it comes, heartbeats while it lives, no word when it dies."""

    def __init__(self, bus: Bus, stage: StageName = "cut") -> None:
        self.id = new_id()
        self.stage: StageName = stage
        self.registry = Registry(bus)
        self.bus = bus
        self._beating: asyncio.Task[None] | None = None
        self._state = state(self.id, stage)

    async def come(self) -> None:
        await self.bus.publish(WorkerOnline(worker=self.id, stage=self.stage, pid=1, host="far"))
        await self.live()

    async def live(self) -> None:
        await self.registry.put(self._state)
        self._beating = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(TTL_S / 4)
            await self.registry.put(self._state)

    def work_on(self, job: str) -> None:
        self._state = msgspec.structs.replace(self._state, job=job, progress=0.0, progress_at=datetime.now(UTC))

    async def get_on(self) -> None:
        while True:
            self._state = msgspec.structs.replace(self._state, progress_at=datetime.now(UTC))
            await asyncio.sleep(0.1)

    async def freeze(self) -> None:
        assert self._beating is not None
        self._beating.cancel()
        await asyncio.gather(self._beating, return_exceptions=True)


async def next_of(feed: Feed[LiveEvent], *kinds: type, wait_s: float = 8.0) -> AnyEvent:
    async with asyncio.timeout(wait_s):
        async for fact in feed:
            if isinstance(fact.event, kinds):
                return fact.event
    raise AssertionError("the feed ended")


async def facts_of(bus: Bus, worker: str) -> list[str]:
    found = await bus.read(0, f"evt.worker.*.{worker}")
    return [type(fact.event).__name__ for fact in found]


async def test_a_worker_that_falls_silent_is_reported_once_and_again_online_when_it_wakes(box: NatsBox) -> None:
    bus = await box.bus("supervisor")
    worker = Worker(bus)
    settings = msgspec.structs.replace(QUICK, workers_clean_s=1.0)
    async with bus.live("evt.worker.>") as feed, dispatcher(box, settings):
        await worker.come()
        await next_of(feed, WorkerOnline)
        await asyncio.sleep(0.3)
        await worker.freeze()
        offline = await next_of(feed, WorkerOffline)
        assert isinstance(offline, WorkerOffline)
        assert (offline.worker, offline.stage, offline.source) == (worker.id, "cut", "dispatcher")
        assert offline.reason == "no sign of life for 15 s"
        await worker.live()
        online = await next_of(feed, WorkerOnline)
        assert isinstance(online, WorkerOnline)
        assert (online.worker, online.host) == (worker.id, "far")
        await worker.freeze()
    assert await facts_of(bus, worker.id) == ["WorkerOnline", "WorkerOffline", "WorkerOnline"]


async def test_a_worker_that_reports_but_stands_still_is_reported_frozen_once(
    box: NatsBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "FrozenWatch", lambda stall_s: FrozenWatch(stall_s, margin_s=0.2))
    bus = await box.bus("supervisor")
    frozen, working = Worker(bus), Worker(bus)
    settings = msgspec.structs.replace(QUICK, workers_clean_s=1.0)
    async with bus.live("evt.worker.>") as feed, dispatcher(box, settings, stall_s={"cut": 2.0}):
        for one in (frozen, working):
            one.work_on("j" * 26)
            await one.come()
        moving = asyncio.create_task(working.get_on())
        offline = await next_of(feed, WorkerOffline)
        assert isinstance(offline, WorkerOffline)
        assert offline.worker == frozen.id
        assert offline.reason.startswith(f"frozen: it reports, but has not got on with job {'j' * 26} for ")
        await asyncio.sleep(2.0)  # several looks and a cleaning: that nothing more is said is the test
        assert await facts_of(bus, frozen.id) == ["WorkerOnline", "WorkerOffline"]
        assert await facts_of(bus, working.id) == ["WorkerOnline"]
        moving.cancel()
        await frozen.freeze()
        await working.freeze()


async def test_a_death_that_the_supervisor_reported_is_not_reported_again(box: NatsBox) -> None:
    bus = await box.bus("supervisor")
    worker, other = Worker(bus), Worker(bus)
    async with bus.live("evt.worker.>") as feed, dispatcher(box):
        for one in (worker, other):
            await one.come()
        await asyncio.sleep(0.3)
        await worker.freeze()
        await bus.publish(WorkerOffline(source="supervisor", worker=worker.id, stage="cut", reason="killed"))
        await asyncio.sleep(0.2)
        await other.freeze()
        while True:  # the other expires after the first: by then the first was noticed as well
            offline = await next_of(feed, WorkerOffline)
            if isinstance(offline, WorkerOffline) and offline.worker == other.id:
                break
    assert await facts_of(bus, worker.id) == ["WorkerOnline", "WorkerOffline"]


async def test_what_a_power_cut_left_behind_is_reported_after_the_start(box: NatsBox) -> None:
    bus = await box.bus("supervisor")
    ghost = new_id()
    await bus.publish(WorkerOnline(worker=ghost, stage="faces", pid=1, host="h"))
    async with bus.live("evt.worker.>") as feed, dispatcher(box):
        offline = await next_of(feed, WorkerOffline)
        assert isinstance(offline, WorkerOffline)
        assert (offline.worker, offline.stage) == (ghost, "faces")
        assert offline.reason == "gone, and nobody was there to see it"


async def test_a_worker_that_says_goodbye_has_left(box: NatsBox) -> None:
    bus = await box.bus("supervisor")
    worker = Worker(bus)
    async with bus.live("evt.worker.>") as feed, dispatcher(box):
        await worker.come()
        await asyncio.sleep(0.3)
        await worker.freeze()
        await worker.registry.remove(worker.id)
        offline = await next_of(feed, WorkerOffline)
        assert isinstance(offline, WorkerOffline)
        assert offline.reason == "left"


async def test_a_stage_without_its_minimum_is_an_alert_until_it_has_it(box: NatsBox) -> None:
    bus = await box.bus("supervisor")
    settings = msgspec.structs.replace(QUICK, workers_missing_s=0.5)
    async with bus.live("evt.alert.>") as feed, dispatcher(box, settings, minimum={"cut": 1, "crop": 0}):
        raised = await next_of(feed, AlertRaised)
        assert isinstance(raised, AlertRaised)
        assert (raised.alert, raised.severity) == ("workers-cut", "critical")
        assert raised.message == "0 of at least 1 cut workers report"
        worker = Worker(bus)
        await worker.come()
        cleared = await next_of(feed, AlertCleared)
        assert isinstance(cleared, AlertCleared)
        assert cleared.alert == "workers-cut"
        await worker.freeze()
    assert len(await bus.read(0, "evt.alert.>")) == 2


async def test_a_queue_that_grows_and_shrinks_is_told_once_each_and_a_restart_repeats_nothing(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    settings = msgspec.structs.replace(QUICK, queue_warning=5, queue_critical=10)
    async with bus.live("evt.queue.>") as feed:
        async with dispatcher(nats, settings):
            for _ in range(6):
                await bus.commit([Command(stage="cut", job=new_id(), clip=1)], None)
            said = await next_of(feed, QueueThreshold)
            assert isinstance(said, QueueThreshold)
            assert (said.stage, said.level) == ("cut", "warning")
            assert said.depth >= 5
        async with dispatcher(nats, settings):
            await asyncio.sleep(0.5)
            async with bus.work("cut") as work:
                for _ in range(6):
                    delivery = await work.next(2.0)
                    assert delivery is not None
                    await delivery.done()
            said = await next_of(feed, QueueThreshold)
            assert isinstance(said, QueueThreshold)
            assert (said.stage, said.level, said.depth) == ("cut", "ok", 0)
    assert len(await bus.read(0, "evt.queue.>")) == 2
