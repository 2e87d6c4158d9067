"""A real box changes its staff: on request, on a drain, and when a worker is frozen, and no work is lost for it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from appliance.boxlink import connect
from appliance.control.drain import draining
from appliance.control.ledger import hold, release
from appliance.intake import create_job
from appliance.store.queries import ServiceRow, Store
from bus.connection import Bus
from bus.events import (
    STAGES,
    AnyEvent,
    Event,
    JobDownloading,
    JobFailed,
    JobOptions,
    JobRetrying,
    JobSource,
    ServiceDown,
    WorkerOffline,
    WorkerOnline,
    WorkerScaled,
)
from bus.feed import Feed, LiveEvent
from bus.registry import Registry, WorkerState
from tests.faults.harness import RealBox
from tests.media.server import Site, serving

pytestmark = pytest.mark.slow
WAIT_S = 60.0
HEAD = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"
SETTINGS = """
hardware: {enabled: false}
cache: {url: 'off'}
workers: {download: {min: 1, max: 3, stall_timeout_s: 15}}
"""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBox]:
    box = RealBox(tmp_path_factory.mktemp("box"), SETTINGS)
    box.start()
    yield box
    box.stop()
    assert box.leftovers() == []


@pytest.fixture
def site() -> Iterator[Site]:
    """A download that stands still after its first bytes until `go_on`, and then proves to be no video."""
    with serving(Site(data=HEAD + bytes(200_000), pause_after=100_000)) as site:
        yield site


@asynccontextmanager
async def watching(box: RealBox) -> AsyncIterator[tuple[Bus, Feed[LiveEvent]]]:
    """As the dispatcher, which is who says such things."""
    async with asyncio.timeout(WAIT_S), await connect(box.config, "dispatcher") as bus, bus.live("evt.>") as feed:
        yield bus, feed


async def next_of(feed: Feed[LiveEvent], *kinds: type[Event], job: str | None = None) -> AnyEvent:
    async for fact in feed:
        if isinstance(fact.event, kinds) and job in (None, fact.event.job):
            return fact.event
    raise AssertionError("the feed ended")


async def slow_job(bus: Bus, site: Site) -> str:
    return await create_job(bus, JobSource(kind="url", location=site.url(), name="slow.mp4"), JobOptions())


async def downloaders(bus: Bus) -> list[WorkerState]:
    return [state for state in await Registry(bus).all() if state.stage == "download"]


async def services(box: RealBox, count: int) -> list[ServiceRow]:
    """The download workers in the read model, once there are `count`."""

    def read() -> list[ServiceRow]:
        with Store(box.database) as store:
            return [row for row in store.services() if row.service.startswith("download-")]

    while len(rows := await asyncio.to_thread(read)) != count:
        await asyncio.sleep(0.05)
    return rows


async def test_it_follows_the_last_word_on_how_many_and_those_who_leave_are_no_fault(box: RealBox) -> None:
    async with watching(box) as (bus, feed):
        await bus.publish(WorkerScaled(stage="download", before=1, after=9, reason="a test"))
        for _ in range(2):
            online = await next_of(feed, WorkerOnline)
            assert isinstance(online, WorkerOnline)
            assert online.stage == "download"
        assert len(await services(box, 3)) == 3, "no more than max"
        await bus.publish(WorkerScaled(stage="download", before=3, after=0, reason="a test"))
        gone = [await next_of(feed, ServiceDown, WorkerOffline) for _ in range(4)]
        assert [(fact.on_purpose, fact.restarts) for fact in gone if isinstance(fact, ServiceDown)] == [(True, 0)] * 2
        left = [fact for fact in gone if isinstance(fact, WorkerOffline)]
        assert {fact.reason for fact in left} == {"retired: fewer workers are wanted"}
        assert all(fact.source == fact.worker for fact in left), "they say so themselves"
        (row,) = await services(box, 1)
        assert row.state == "up"
        assert len(await downloaders(bus)) == 1, "no fewer than min"


async def test_a_drain_waits_for_the_work_in_hand_and_ends_the_workers(box: RealBox, site: Site) -> None:
    async with watching(box) as (bus, feed):
        job = await slow_job(bus, site)
        await asyncio.to_thread(site.paused.wait, WAIT_S)
        (before,) = await downloaders(bus)
        await hold(bus, "download", "operator", mode="drain", by="anna", reason="x")
        waiting = await slow_job(bus, site)
        seen = []
        async for (left,) in draining(bus, box.config.data_dir, ["download"]):
            seen.append((left.in_work, left.workers, left.waiting))
            site.go_on.set()
        assert seen[0] == (1, 1, 1)
        assert seen[-1] == (0, 0, 1)
        ended = await bus.read(0, f"evt.job.failed.{job}")
        assert len(ended) == 1, "what ran was finished"
        assert (await bus.read(0, f"evt.job.retrying.{job}")) == []
        assert await services(box, 0) == []
        await release(bus, "download", "operator", by="anna")
        started = await next_of(feed, JobDownloading, job=waiting)
        assert isinstance(started, JobDownloading)
        assert started.worker != before.worker
        await next_of(feed, JobFailed, job=waiting)


def appliance(box: RealBox, *words: str) -> list[str]:
    return [sys.executable, "-m", "appliance", "-c", str(box.config_path), *words]


async def run(box: RealBox, *words: str) -> tuple[int, str]:
    done = await asyncio.to_thread(subprocess.run, appliance(box, *words), capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


async def test_not_waiting_any_more_ends_no_drain_and_a_person_resumes_what_people_hold(
    box: RealBox, site: Site
) -> None:
    async with watching(box) as (bus, feed):
        job = await slow_job(bus, site)
        await asyncio.to_thread(site.paused.wait, WAIT_S)
        waiting = await asyncio.create_subprocess_exec(
            *appliance(box, "drain", "download"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert waiting.stderr is not None
        assert await waiting.stderr.readline() == b"still in work: download 1\n"
        waiting.send_signal(signal.SIGINT)
        out, err = await waiting.communicate()
        assert (waiting.returncode, err) == (1, b"not waiting any more: the drain stands\n")
        assert b"download: drained by" in out
        code, told = await run(box, "drain", "download", "--timeout", "0.5")
        assert (code, "not everything is done" in told) == (1, True)
        await hold(bus, "download", "alert-gpu", by="alerts", reason="hot")
        code, told = await run(box, "resume", "download")
        assert (code, told) == (0, "download: paused by alerts (alert-gpu): hot\n")
        code, told = await run(box, "resume", "download", "--force")
        assert (code, told) == (0, "download runs\n")
        assert await run(box, "resume", "download") == (0, "nothing to change\n")
        code, told = await run(box, "pause", "download", "--for", "5x")
        assert (code, "for example 8h" in told) == (2, True)
        site.go_on.set()
        await next_of(feed, JobFailed, job=job)


async def test_a_worker_that_the_log_calls_frozen_is_replaced_and_its_work_tried_again(
    box: RealBox, site: Site
) -> None:
    async with watching(box) as (bus, feed):
        job = await slow_job(bus, site)
        await asyncio.to_thread(site.paused.wait, WAIT_S)
        (worker,) = await downloaders(bus)
        reason = f"frozen: it reports, but has not got on with job {job} for 26 s"
        await bus.publish(WorkerOffline(source="dispatcher", worker=worker.worker, stage="download", reason=reason))
        retrying = await next_of(feed, JobRetrying, job=job)
        assert isinstance(retrying, JobRetrying)
        assert (retrying.attempt, retrying.code) == (1, "worker-lost")
        assert reason in retrying.error
        site.go_on.set()
        again = await next_of(feed, JobDownloading, job=job)
        assert isinstance(again, JobDownloading)
        assert again.attempt == 2
        await next_of(feed, JobFailed, job=job)
        said = [fact.event.source for fact in await bus.read(0, f"evt.worker.offline.{worker.worker}")]
        assert said == ["dispatcher"], "it is said once"


async def test_a_stage_that_stands_still_is_ended_by_its_worker(box: RealBox, site: Site) -> None:
    async with watching(box) as (bus, feed):
        job = await slow_job(bus, site)
        await asyncio.to_thread(site.paused.wait, WAIT_S)
        for process in await asyncio.to_thread(box.find, "appliance.worker.child"):
            os.kill(process.pid, signal.SIGSTOP)
        retrying = await next_of(feed, JobRetrying, job=job)
        assert isinstance(retrying, JobRetrying)
        assert (retrying.attempt, retrying.code) == (1, "stalled")
        site.go_on.set()
        await next_of(feed, JobFailed, job=job)


async def test_a_stopped_worker_is_reported_ended_and_replaced(box: RealBox, site: Site) -> None:
    async with watching(box) as (bus, feed):
        job = await slow_job(bus, site)
        await asyncio.to_thread(site.paused.wait, WAIT_S)
        (worker,) = await downloaders(bus)
        os.kill(worker.pid, signal.SIGSTOP)
        offline = await next_of(feed, WorkerOffline)
        assert isinstance(offline, WorkerOffline)
        assert (offline.worker, offline.source) == (worker.worker, "dispatcher")
        retrying = await next_of(feed, JobRetrying, job=job)
        assert isinstance(retrying, JobRetrying)
        assert (retrying.attempt, retrying.code) == (1, "worker-lost")
        site.go_on.set()
        await next_of(feed, JobFailed, job=job)
        (other,) = await downloaders(bus)
        assert other.worker != worker.worker


def test_the_box_knows_of_no_fault_after_all_that(box: RealBox) -> None:
    with Store(box.database) as store:
        states = {(row.service.partition("-")[0], row.state) for row in store.services()}
    assert states == {(name, "up") for name in ("bus", "dispatcher", "web", *STAGES)}
