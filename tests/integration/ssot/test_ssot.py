"""The document over a real store, bus and Redis: what it holds, where it came from, and what it says when they fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.cache.memory import MemoryCache
from appliance.cache.port import NoCache
from appliance.monitor.sample import Sample
from appliance.services.manager import SECTIONS
from appliance.services.readers import Position
from appliance.ssot.cache import LIVE, Snapshot, SsotCache
from bus.connection import Bus
from bus.events import AlertRaised, Command, JobCompleted, ServiceDown
from bus.ids import new_id
from bus.registry import Registry, WorkerState
from bus.roles import Role
from tests.integration.conftest import NatsBox
from tests.integration.ssot.conftest import EPOCH, SharedCache, StoreBox, ssot_over
from tests.unit.appliance import facts

HOST = Sample(
    host="box",
    ts=datetime.now(UTC),
    interval_s=1.0,
    uptime_s=5.0,
    cpu=None,
    memory=None,
    disks=None,
    wear=None,
    networks=None,
    temperatures=None,
    gpus=None,
    clock_synchronised=None,
    ages_s={},
)
KEYS = {*SECTIONS, *LIVE, "seq", "epoch", "generated_at", "sections", "stale"}


def content(snapshot: Snapshot) -> dict[str, Any]:
    found = msgspec.json.decode(snapshot.body)
    assert isinstance(found, dict)
    return found


@asynccontextmanager
async def over_cache(shared: SharedCache, data_dir: Path, bus: Bus | None) -> AsyncIterator[SsotCache]:
    async with shared.ssot(data_dir, bus) as ssot:
        yield ssot


async def test_the_document_says_what_the_box_does(
    nats: NatsBox, shared: SharedCache, store: StoreBox, tmp_path: Path
) -> None:
    bus = await nats.bus("supervisor")
    job, ended = new_id(), new_id()
    now = datetime.now(UTC)
    await bus.commit([Command(stage="download", job=job)])
    worker = WorkerState(worker=new_id(), stage="cut", pid=7, host="box", started_at=now, job=ended, clip=1)
    await Registry(bus).put(worker)
    bus.telemetry("host", "box", HOST)
    seq = await store.project(
        facts.created(job),
        facts.created(ended),
        *(facts.done(ended, stage) for stage in ("download", "transcribe", "moments")),
        facts.planned(ended, 1),
        facts.done(ended, "cut", 1),
        JobCompleted(job=ended, clips_ready=1, clips_failed=0, seconds=5.0),
        ServiceDown(service="monitor", reason="killed", restarts=1),
        AlertRaised(alert="disk", severity="critical", message="the disk is full"),
    )
    async with asyncio.timeout(5):
        while not await bus.direct_many("TELEMETRY", {"multi_last": ["tel.host.>"]}):
            await asyncio.sleep(0.01)
    async with over_cache(shared, tmp_path, await nats.bus("web")) as ssot:
        first = await ssot.read()
        second = await ssot.read()
        again = await ssot.read(bypass=True)
    assert (first.verdict, second.verdict, again.verdict) == ("miss", "hit", "bypass")
    assert first.stale == ()
    assert first.position == second.position == (EPOCH, seq)
    assert first.etag == second.etag
    found = content(second)
    assert set(found) == KEYS
    assert found["jobs"]["states"] == {"queued": 1, "completed": 1}
    assert [row["job"] for row in found["jobs"]["open"]] == [job]
    assert {row["job"] for row in found["jobs"]["newest"]} == {job, ended}
    assert found["clips"]["made"] == 1
    assert found["clips"]["newest"][0]["name"] == "talk.mp4"
    assert found["queue"]["stages"]["download"]["pending"] == 1
    assert found["queue"]["stages"]["download"]["oldest_s"] >= 0
    cut = found["agents_workers"]["stages"]["cut"]
    assert {name: cut[name] for name in ("online", "working", "stuck", "min")} == {
        "online": 1,
        "working": 1,
        "stuck": 0,
        "min": 1,
    }
    assert found["hardware"]["hosts"][0]["sample"]["uptime_s"] == 5.0
    assert found["hardware"]["hosts"][0]["sample"]["gpus"] is None
    assert found["alerts"]["severities"] == {"critical": 1}
    assert found["services"]["services"][0]["reason"] == "killed"
    assert found["dashboard"]["verdict"] == "degraded"
    assert found["dashboard"]["reasons"][:2] == ["the disk is full", "monitor is down: killed"]
    assert found["dashboard"]["queue"] == {"pending": 1, "in_flight": 0, "oldest_s": found["queue"]["oldest_s"]}
    assert found["events"]["recent"][0]["type"] == "alert:raised"
    assert found["seq"] == seq
    assert found["epoch"] == EPOCH
    assert found["stale"] is False
    assert found["websocket"] is None
    assert found["sections"]["jobs"]["seq"] == seq
    assert found["cache"]["kind"] == shared.kind
    assert found["cache"]["verdicts"] == {"miss": 1, "hit": 1}


@pytest.mark.parametrize("role", ["dispatcher", "web", "cli"])
async def test_each_role_that_reads_it_may(nats: NatsBox, store: StoreBox, tmp_path: Path, role: Role) -> None:
    await store.project(facts.created(new_id()))
    async with ssot_over(tmp_path, NoCache(), await nats.bus(role)) as ssot:
        snapshot = await ssot.read()
    assert snapshot.stale == ()
    assert content(snapshot)["hardware"] is None, "no monitor has said anything"


async def test_it_works_whole_with_the_cache_off(nats: NatsBox, store: StoreBox, tmp_path: Path) -> None:
    await store.project(facts.created(new_id()))
    async with ssot_over(tmp_path, NoCache(), await nats.bus("web")) as ssot:
        await ssot.invalidate(["jobs"])
        await ssot.warm()
        await ssot.warmed()
        for _ in range(2):
            snapshot = await ssot.read()
            assert snapshot.verdict == "bypass"
            assert content(snapshot)["jobs"]["states"] == {"queued": 1}
        assert (await ssot.validate()).equal
        assert ssot.figures().sections["jobs"].misses == {"bypass": 2}


async def test_an_event_is_seen_by_the_next_reader(shared: SharedCache, store: StoreBox, tmp_path: Path) -> None:
    """Two processes: one reads, the other projects and invalidates."""
    await store.project(facts.created(new_id()))
    async with over_cache(shared, tmp_path, None) as web, over_cache(shared, tmp_path, None) as dispatcher:
        await web.read_section("jobs")
        assert (await web.read_section("jobs")).verdict == "hit"
        seq = await store.project(facts.created(new_id()))
        assert (await web.read_section("jobs")).verdict == "hit", "nobody said anything yet"
        await dispatcher.invalidate(["jobs", "dashboard"])
        seen = await web.read_section("jobs")
        assert seen.verdict == "miss"
        assert seen.position.seq == seq
        assert content(seen)["states"] == {"queued": 2}
        assert web.figures().sections["jobs"].misses == {"cold": 1, "invalidated": 1}
        assert (await web.read_section("jobs")).verdict == "hit"
        await dispatcher.warm(["jobs"])
        await dispatcher.warmed()
        assert (await web.read_section("services")).verdict == "miss"


async def test_what_was_computed_before_a_fact_is_not_served_after_it(
    shared: SharedCache, store: StoreBox, tmp_path: Path
) -> None:
    """The race of every cache: computed before the fact, stored after the invalidation."""
    await store.project(facts.created(new_id()))
    async with over_cache(shared, tmp_path, None) as ssot:
        await ssot.read_section("jobs")
        shelf = ssot._shelf
        old = (await shelf.sections(["jobs"], time.time()))[0]["jobs"].entry
        assert old is not None
        await store.project(facts.created(new_id()))
        await ssot.invalidate(["jobs"])
        await shelf.put({"jobs": old})
        assert content(await ssot.read_section("jobs"))["states"] == {"queued": 2}


async def test_a_missing_bus_takes_nothing_from_the_rest(store: StoreBox, tmp_path: Path) -> None:
    await store.project(facts.created(new_id()))
    async with ssot_over(tmp_path, MemoryCache(), None) as ssot:
        snapshot = await ssot.read()
    assert snapshot.verdict == "stale"
    assert set(snapshot.stale) == {"queue", "agents_workers", "hardware"}
    found = content(snapshot)
    assert found["stale"] is True
    assert found["queue"] is None
    assert found["jobs"]["states"] == {"queued": 1}
    assert "the event bus does not answer" in found["dashboard"]["reasons"]


async def test_a_locked_database_serves_the_last_copy_as_stale(
    rollback_journal: None, nats: NatsBox, shared: SharedCache, store: StoreBox, tmp_path: Path
) -> None:
    await store.project(facts.created(new_id()))
    bus = await nats.bus("web")
    async with over_cache(shared, tmp_path, bus) as ssot, over_cache(shared, tmp_path, bus) as other:
        before = await ssot.read()
        await store.project(facts.created(new_id()))
        await ssot.invalidate(SECTIONS)
        await store.execute("BEGIN EXCLUSIVE")
        began = time.perf_counter()
        late = await ssot.read()
        assert time.perf_counter() - began < 1.5
        assert late.verdict == "stale"
        assert {"jobs", "clips", "analytics", "alerts", "services", "events", "dashboard"} <= set(late.stale)
        assert content(late)["jobs"] == content(before)["jobs"]
        assert content(late)["stale"] is True
        assert content(late)["queue"] is not None, "the bus answers"
        began = time.perf_counter()
        assert (await ssot.read()).verdict == "stale"
        assert time.perf_counter() - began < 0.2, "what just failed is not asked for again at once"
        fresh_process = await other.read()
        assert content(fresh_process)["jobs"] == content(before)["jobs"], "the copy of last resort is shared"
        await store.execute("ROLLBACK")
        async with asyncio.timeout(5):
            while (found := await ssot.read()).verdict == "stale":
                await asyncio.sleep(0.1)
        assert content(found)["jobs"]["states"] == {"queued": 2}


async def test_validation_finds_what_no_event_invalidated(shared: SharedCache, store: StoreBox, tmp_path: Path) -> None:
    await store.project(facts.created(new_id()))
    async with over_cache(shared, tmp_path, None) as ssot:
        await ssot.read()
        sound = await ssot.validate()
        assert sound.equal
        assert set(sound.checked) == {"jobs", "clips", "analytics", "alerts", "services", "events"}
        assert sound.age_s is not None
        await store.project(facts.created(new_id()))  # and the event's row in the table names no key
        found = await ssot.validate()
        assert not found.equal
        assert found.differing == ("jobs",)
        assert ssot.figures().differing == ["jobs"]
        assert content(await ssot.read_section("jobs"))["states"] == {"queued": 2}, "it heals what it finds"
        assert (await ssot.validate()).equal


async def test_an_invalidation_that_comes_meanwhile_is_no_difference(
    shared: SharedCache, store: StoreBox, tmp_path: Path
) -> None:
    await store.project(facts.created(new_id()))
    async with over_cache(shared, tmp_path, None) as ssot:
        await ssot.read_section("jobs")
        await store.project(facts.created(new_id()))
        validating = asyncio.create_task(ssot.validate())
        await asyncio.sleep(0.1)
        await ssot.invalidate(["jobs"])
        assert (await validating).equal


async def test_a_crowd_of_readers_is_one_rebuild(
    store: StoreBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.project(facts.created(new_id()))
    async with ssot_over(tmp_path, NoCache(), None) as ssot:
        fetches = 0
        fetch = ssot._rebuild._manager.fetch

        async def counted(*args: Any) -> Any:
            nonlocal fetches
            fetches += 1
            return await fetch(*args)

        monkeypatch.setattr(ssot._rebuild._manager, "fetch", counted)
        snapshots = await asyncio.gather(*(ssot.read_section("jobs") for _ in range(200)))
        assert fetches == 1
        assert len({snapshot.body for snapshot in snapshots}) == 1


async def test_a_computation_that_began_before_a_fact_is_not_shared_after_it(
    store: StoreBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.project(facts.created(new_id()))
    async with ssot_over(tmp_path, MemoryCache(), None) as ssot:
        fetch = ssot._rebuild._manager.fetch
        began, go_on = asyncio.Event(), asyncio.Event()

        async def held(*args: Any) -> Any:
            found = await fetch(*args)
            began.set()
            await go_on.wait()
            return found

        monkeypatch.setattr(ssot._rebuild._manager, "fetch", held)
        early = asyncio.create_task(ssot.read_section("jobs"))
        await began.wait()
        await store.project(facts.created(new_id()))
        await ssot.invalidate(["jobs"])
        late = asyncio.create_task(ssot.read_section("jobs"))
        await asyncio.sleep(0.05)
        go_on.set()
        assert content(await early)["states"] == {"queued": 1}
        assert content(await late)["states"] == {"queued": 2}


async def test_an_unknown_section_is_named(store: StoreBox, tmp_path: Path) -> None:
    async with ssot_over(tmp_path, NoCache(), None) as ssot:
        with pytest.raises(KeyError, match="there are dashboard"):
            await ssot.read_section("job")
        for call in (ssot.invalidate, ssot.warm):
            with pytest.raises(KeyError, match="'jobs_today' is no section"):
                await call(["jobs_today"])


async def test_a_store_that_is_not_there_yet_is_null_and_stale(tmp_path: Path) -> None:
    async with ssot_over(tmp_path, NoCache(), None) as ssot:
        found = content(await ssot.read())
    assert found["jobs"] is None
    assert found["seq"] == 0
    assert found["stale"] is True
    assert not (tmp_path / "appliance.db").exists(), "a reader makes no database"


async def test_no_reader_is_ever_served_what_was_invalidated_before_it_asked(
    nats: NatsBox, shared: SharedCache, store: StoreBox, tmp_path: Path
) -> None:
    """Facts, invalidations, warming and readers of two processes, all at once."""
    await store.project(facts.created(new_id()))
    invalidated = 0
    writing = True
    reads = hits = whole_hits = 0

    async def write(ssot: SsotCache) -> None:
        nonlocal invalidated, writing
        for n in range(60):
            seq = await store.project(facts.created(new_id()))
            await ssot.invalidate(["jobs", "dashboard", "events"], Position(EPOCH, seq))
            invalidated = seq
            if n % 7 == 0:
                await ssot.warm(["jobs"])
            await asyncio.sleep(0.003 * (n % 4))
        writing = False

    async def read(ssot: SsotCache) -> None:
        nonlocal reads, hits, whole_hits
        while writing:
            least = invalidated
            one = await ssot.read_section("jobs")
            whole = await ssot.read()
            assert one.position.seq >= least
            assert content(one)["states"]["queued"] == one.position.seq
            found = content(whole)
            assert found["sections"]["jobs"]["seq"] >= least
            assert found["jobs"]["states"]["queued"] == found["sections"]["jobs"]["seq"]
            reads += 2
            hits += one.verdict == "hit"
            whole_hits += whole.verdict == "hit"
            await asyncio.sleep(0)

    bus = await nats.bus("web")
    async with over_cache(shared, tmp_path, bus) as web, over_cache(shared, tmp_path, bus) as dispatcher:
        await asyncio.gather(write(dispatcher), read(web), read(web), read(dispatcher))
    assert reads > 50
    assert hits > 0
    assert whole_hits > 0, "the cache was of use meanwhile"
