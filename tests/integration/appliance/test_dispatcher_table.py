"""Every row of the event table, fired on a real bus: the row is written, the cache told, the actions run."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import msgspec

from appliance.dispatcher.said import Announcer
from appliance.dispatcher.schedule import CacheSchedule
from appliance.dispatcher.table import SECTIONS, TABLE, Section, rooms_of
from appliance.services.readers import Position
from bus.events import (
    CLIP_STAGES,
    EVENT_TYPES,
    JOB_STAGES,
    AlertCleared,
    AlertRaised,
    AnyEvent,
    CacheDegraded,
    CacheRestored,
    ControlChanged,
    FileDeleted,
    FileRefused,
    FilesPinned,
    FilesUnpinned,
    FileUploaded,
    JobCancelled,
    JobCompleted,
    JobDeleted,
    JobRetried,
    QueueThreshold,
    ServiceDown,
    ServiceUp,
    UserAction,
    WorkerOffline,
    WorkerOnline,
    WorkerScaled,
)
from bus.ids import new_id
from tests.integration.appliance.dispatching import QUICK, RecordingCache, dispatcher, stored, until
from tests.integration.conftest import NatsBox
from tests.unit.appliance import facts


def one_of_each(job: str) -> list[AnyEvent]:
    """The life of a job and of a box, each type at least once."""
    worker = new_id()
    job_life: list[AnyEvent] = [facts.created(job)]
    for stage in JOB_STAGES:
        job_life += [facts.started(job, stage), facts.done(job, stage, clips=2)]
    job_life += [facts.planned(job, 1), facts.planned(job, 2)]
    for clip_stage in CLIP_STAGES:
        job_life += [facts.started(job, clip_stage, 1), facts.done(job, clip_stage, 1)]
    return [
        FileUploaded(file="f", path="input/a.mp4", name="a.mp4", size_bytes=1, sha256="0" * 64, via="watch"),
        FileRefused(
            file="f", path="input/b", name="b", size_bytes=0, fingerprint="b", code="empty", reason="the file is empty"
        ),
        FileDeleted(path="jobs/a/source.mp4", kind="source", size_bytes=1, reason="the job ended 30 days ago"),
        FilesPinned(job=job, by="me"),
        FilesUnpinned(job=job, by="me"),
        *job_life,
        facts.retrying(job, "cut", 1, 2),
        JobRetried(job=job, clip=2, by="me", stage="cut"),
        facts.clip_failed(job, 2),
        JobCompleted(job=job, clips_ready=1, clips_failed=1, seconds=1.0),
        facts.job_failed(new_id()),
        JobCancelled(job=job, by="me"),
        JobDeleted(job=job, by="me"),
        WorkerOnline(worker=worker, stage="cut", pid=1, host="h"),
        WorkerOffline(worker=worker, stage="cut", reason="killed"),
        WorkerScaled(stage="cut", before=1, after=2, reason="long queue"),
        ControlChanged(target="cut", holder="operator", mode="pause", by="me", reason="disk moves"),
        QueueThreshold(stage="cut", level="warning", depth=100, oldest_s=1.0),
        AlertRaised(alert="disk", severity="warning", message="full"),
        AlertCleared(alert="disk", message="free"),
        ServiceDown(service="cache", reason="killed", restarts=1),
        ServiceUp(service="cache", pid=1),
        CacheDegraded(reason="away"),
        CacheRestored(down_s=1.0),
        UserAction(user="me", action="jobs.cancel", target=job),
    ]


async def test_each_type_fired_has_the_effects_of_its_row(nats: NatsBox) -> None:
    bus, cache = await nats.bus("supervisor"), RecordingCache()
    events = one_of_each(new_id())
    assert {str(event.__struct_config__.tag) for event in events} == set(EVENT_TYPES), "a type is not fired"
    async with bus.live("evt.>") as feed, dispatcher(nats, cache=cache) as running:
        await until(lambda: cache.invalidated == set(SECTIONS))  # the start
        for event in events:
            name = str(event.__struct_config__.tag)
            row = TABLE[name]
            cache.forget()
            running.ran.clear()
            seq = await bus.publish(event)
            wanted = [(event.id, action) for action in row.actions]
            await until(
                lambda row=row, wanted=wanted: (
                    set(row.invalidate) <= cache.invalidated  # type: ignore[misc]
                    and set(row.warm) <= cache.warmed
                    and set(wanted) <= set(running.ran)
                )
            )
            live = await feed.next(5.0)
            while live is not None and live.seq != seq:  # what the actions published before
                live = await feed.next(5.0)
            assert live is not None
            assert rooms_of(live.event) == rooms_of(event)
            cursor, _ = await stored(nats)
            assert cursor >= seq, "the cache was told before the row was there"


async def test_a_type_without_actions_runs_none_and_warms_nothing(nats: NatsBox) -> None:
    bus, cache = await nats.bus("supervisor"), RecordingCache()
    async with dispatcher(nats, cache=cache) as running:
        await until(lambda: cache.invalidated == set(SECTIONS))
        cache.forget()
        await bus.publish(facts.started(new_id(), "cut", 1))
        await until(lambda: "clips" in cache.invalidated)
        await asyncio.sleep(0.1)  # nothing to wait for: that nothing comes is the test
        assert cache.invalidated == set(TABLE["job:cutting"].invalidate)
        assert (cache.warmed, running.ran) == (set(), [])


async def test_a_cache_that_comes_back_is_told_what_it_missed(nats: NatsBox) -> None:
    bus, cache = await nats.bus("supervisor"), RecordingCache()
    async with dispatcher(nats, cache=cache):
        await until(lambda: cache.invalidated == set(SECTIONS))
        cache.forget()
        cache.broken = True
        await bus.publish(AlertRaised(alert="disk", severity="warning", message="full"))
        await bus.publish(ServiceDown(service="x", reason="killed", restarts=1))
        await asyncio.sleep(0.2)
        assert cache.invalidated == set()
        cache.broken = False
        wanted = {*TABLE["alert:raised"].invalidate, *TABLE["service:down"].invalidate}
        await until(lambda: cache.invalidated == wanted and {"alerts", "services"} <= cache.warmed)


async def test_a_burst_is_a_handful_of_invalidations(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    calls = 0

    class Counting(RecordingCache):
        async def invalidate(self, keys: Collection[Section], position: Position | None = None) -> None:
            nonlocal calls
            calls += 1
            await super().invalidate(keys, position)

    cache, job = Counting(), new_id()
    for _ in range(300):  # before the dispatcher starts: it finds them all at once
        await bus.publish(facts.started(job, "cut", 1))
    async with dispatcher(nats, cache=cache):
        last = (await bus.stream_state()).last_seq
        async with asyncio.timeout(10):
            while (await stored(nats))[0] < last:
                await asyncio.sleep(0.01)
        await until(lambda: "clips" in cache.invalidated)
    assert calls <= 300 // 64 + 2


async def test_a_cache_that_differs_is_one_alert_until_it_does_not(nats: NatsBox) -> None:
    bus, cache = await nats.bus("supervisor"), RecordingCache()
    cache.differing = ("jobs", "alerts")
    settings = msgspec.structs.replace(QUICK, cache_validate_s=1.0)
    schedule = CacheSchedule(await nats.bus("dispatcher"), cache, settings)
    for differing in (("jobs", "alerts"), ("jobs",), (), ()):
        cache.differing = differing
        await schedule.validate()
    facts_said = [fact.event for fact in await bus.read(0, "evt.alert.>")]
    assert [type(fact) for fact in facts_said] == [AlertRaised, AlertCleared]
    assert isinstance(facts_said[0], AlertRaised)
    assert facts_said[0].message == "cached jobs, alerts differed from what the database says; dropped"


async def test_the_whole_document_is_warmed_by_the_clock_and_a_broken_cache_ends_nothing(nats: NatsBox) -> None:
    cache = RecordingCache()
    cache.broken = True
    settings = msgspec.structs.replace(QUICK, cache_warm_s=0.5)
    async with dispatcher(nats, settings, cache=cache):
        await asyncio.sleep(0.2)
        cache.broken = False
        await until(lambda: cache.warmed == set(SECTIONS))


async def test_what_is_announced_in_an_outage_is_said_after_it(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    announcer = Announcer(await nats.bus("dispatcher"))
    serving = asyncio.create_task(announcer.serve())
    await nats.kill()
    announcer.say(CacheDegraded(reason="away"))
    announcer.say(CacheRestored(down_s=1.0))
    await nats.start()
    async with asyncio.timeout(20):
        while len(found := await bus.read(0, "evt.cache.>")) < 2:
            await asyncio.sleep(0.05)
    serving.cancel()
    assert [type(fact.event) for fact in found] == [CacheDegraded, CacheRestored]
