"""A sweep on a real bus: facts first, files after; killed in between; said once; and old facts that run again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.dispatcher.service import Dispatcher
from appliance.storage.measured import read
from appliance.storage.removal import Remover
from appliance.storage.settings import Admission, Retention
from appliance.storage.sweep import SWEEP, Sweeper
from appliance.store.queries import JobRow, Store
from appliance.store.writer import Writer
from bus.connection import Bus
from bus.events import (
    CLIP_STAGES,
    JOB_STAGES,
    AlertRaised,
    Event,
    FileDeleted,
    FilesPinned,
    JobDeleted,
    JobRetried,
    UserAction,
)
from bus.ids import new_id
from stages.folder import JobFolder
from tests.integration.appliance.dispatching import QUICK, database, until
from tests.integration.conftest import NatsBox
from tests.unit.appliance import facts

RETENTION = Retention(keep_jobs=0, source_days=14.0, scratch_days=30.0, unfinished_days=30.0, free_bytes=0)
ROOMY = Admission(reserve_bytes=0, floor_bytes=0, full_bytes=0, ballast_bytes=0)


def ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def life(job: str, days: float, *, failed: bool = False) -> list[Event]:
    """A job of one clip that ended so many days ago."""
    events: list[Event] = [facts.created(job)]
    if failed:
        return [*events, facts.started(job, "download"), facts.done(job, "download"), facts.failed_at(job, ago(days))]
    for stage in JOB_STAGES:
        events += [facts.started(job, stage), facts.done(job, stage)]
    events += [facts.planned(job, 1)]
    for clip_stage in CLIP_STAGES:
        events += [facts.started(job, clip_stage, 1), facts.done(job, clip_stage, 1)]
    return [*events, facts.completed(job, ended_at=ago(days))]


def lay_out(data_dir: Path, job: str) -> JobFolder:
    folder = JobFolder.of(data_dir, job)
    folder.root.mkdir(parents=True)
    folder.output.mkdir(parents=True)
    (folder.root / "source.mp4").write_bytes(b"s" * 50_000)
    (folder.root / "transcript.json").write_bytes(b"t" * 5_000)
    (folder.output / "clip-01.mp4").write_bytes(b"c" * 10_000)
    return folder


class Swept:
    """A dispatcher with its sweeper, in this process."""

    def __init__(self, nats: NatsBox, bus: Bus, store: Writer, retention: Retention) -> None:
        self.bus, self.store = bus, store
        self.config = Config(data_dir=nats.data_dir, admission=ROOMY, retention=retention)
        self.sweeper = Sweeper(bus, store, self.config)
        self._nats = nats

    async def row(self, job: str) -> JobRow:
        def read_row() -> JobRow:
            with Store(database(self._nats)) as store:
                row = store.job(job)
            assert row is not None
            return row

        return await asyncio.to_thread(read_row)

    async def publish(self, events: Iterable[Event]) -> None:
        """Store facts and wait for their rows."""
        for event in events:
            seq = await self.bus.publish(event)
        async with asyncio.timeout(20):
            while await self.store.cursor() < seq:
                await asyncio.sleep(0.01)

    async def deletions(self) -> list[FileDeleted]:
        found = [stored.event for stored in await self.bus.read(0, "evt.file.deleted.*")]
        return [event for event in found if isinstance(event, FileDeleted)]


@asynccontextmanager
async def swept(
    nats: NatsBox, retention: Retention = RETENTION, *, acts: bool = True, sweeps: bool = False
) -> AsyncIterator[Swept]:
    """`acts` False: the dispatcher is killed before it acts on anything. `sweeps`: by itself, not only when called."""
    store, bus = await Writer.open(database(nats)), await nats.bus("dispatcher")
    box = Swept(nats, bus, store, retention)

    class Deaf(Dispatcher):
        def handlers(self):  # type: ignore[no-untyped-def]
            async def never(_event: object) -> None:
                await asyncio.Event().wait()

            return super().handlers() if acts else dict.fromkeys(super().handlers(), never)

    running = Deaf(
        bus,
        store,
        nats.data_dir,
        QUICK,
        background={"retention": box.sweeper.serve} if sweeps else {},
        retention=box.sweeper.asked,
    )
    await running.prepare()
    task = asyncio.create_task(running.serve())
    try:
        yield box
        assert not task.done(), "the dispatcher ended"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


async def test_what_has_reached_its_age_goes_and_each_removal_is_a_fact(nats: NatsBox) -> None:
    old, young, pinned, failed = (new_id() for _ in range(4))
    folders = {job: await asyncio.to_thread(lay_out, nats.data_dir, job) for job in (old, young, pinned, failed)}
    async with swept(nats) as box:
        await box.publish([*life(old, 20), *life(young, 1), *life(pinned, 99), *life(failed, 31, failed=True)])
        await box.publish([FilesPinned(job=pinned, by="me")])
        assert not await box.sweeper.sweep()
        await until(lambda: not (folders[old].root / "source.mp4").exists() and not folders[failed].root.exists())
        said = await box.deletions()
        assert [(fact.job, fact.kind) for fact in said] == [(old, "source"), (failed, "source"), (failed, "scratch")]
        assert 50_000 <= said[0].size_bytes < 60_000
        assert said[0].reason == "the job completed 20 days ago (retention.source_days)"
        assert (folders[old].root / "transcript.json").exists()
        assert (folders[old].output / "clip-01.mp4").exists()
        for job in (young, pinned):
            assert (folders[job].root / "source.mp4").exists()
        assert (await box.row(old)).source_removed_at is not None
        assert (await box.row(old)).scratch_removed_at is None
        async with asyncio.timeout(10):  # weighed again: the next sweep and the report know
            while (weighed := await box.store.call(lambda db: read(db, old))) is None or weighed.source_bytes:
                await asyncio.sleep(0.01)
        assert not await box.sweeper.sweep()
        assert len(await box.deletions()) == 3, "nothing is said twice"


async def test_a_kill_between_fact_and_removal_loses_neither(nats: NatsBox) -> None:
    job = new_id()
    folder = await asyncio.to_thread(lay_out, nats.data_dir, job)
    async with swept(nats, acts=False) as box:
        await box.publish(life(job, 40))
        await box.sweeper.sweep()
        await box.sweeper.sweep()
        assert [fact.kind for fact in await box.deletions()] == ["scratch", "source"], "said once, though still there"
        assert (folder.root / "source.mp4").exists()
    async with swept(nats) as box:
        await until(lambda: not folder.root.exists())
        assert (folder.output / "clip-01.mp4").exists()
        assert len(await box.deletions()) == 2


async def test_an_old_fact_that_runs_again_leaves_a_job_alone_that_has_gone_on(nats: NatsBox) -> None:
    job = new_id()
    folder = await asyncio.to_thread(lay_out, nats.data_dir, job)
    async with swept(nats) as box:
        await box.publish(life(job, 31, failed=True))
        await box.sweeper.sweep()
        await until(lambda: not folder.root.exists())
        await box.publish([JobRetried(job=job, by="me", stage="download"), facts.started(job, "download")])
        await asyncio.to_thread(folder.root.mkdir)
        await asyncio.to_thread((folder.root / "source.mp4").write_bytes, b"again")
        await box.publish([facts.done(job, "download"), facts.failed_at(job, ago(0))])
        remover = Remover(box.store, nats.data_dir)
        for fact in await box.deletions():
            await remover.remove_file(fact)
        assert (folder.root / "source.mp4").read_bytes() == b"again"
        pinned = FilesPinned(job=job, by="me")
        await box.publish([pinned, FileDeleted(job=job, path="x", kind="source", size_bytes=1, reason="r")])
        assert (await box.row(job)).source_removed_at is None
        assert (folder.root / "source.mp4").exists(), "a pin stands against any word"


@pytest.mark.parametrize("path", ["jobs/../../outside", "jobs/..", "jobs/", "/etc", "input/talk.mp4", "outside"])
async def test_a_fact_cannot_lead_out_of_the_folders_of_jobs(nats: NatsBox, path: str) -> None:
    precious = nats.data_dir / "outside" / "file"
    await asyncio.to_thread(precious.parent.mkdir)
    await asyncio.to_thread(precious.write_text, "x")
    store = await Writer.open(database(nats))
    try:
        fact = FileDeleted(path=path, kind="other", size_bytes=1, reason="r")
        await Remover(store, nats.data_dir).remove_file(fact)
    finally:
        await store.close()
    assert precious.exists()


async def test_what_a_late_worker_left_of_a_deleted_job_goes(nats: NatsBox) -> None:
    job = new_id()
    async with swept(nats, Retention(orphans_after_s=60.0, free_bytes=0)) as box:
        await box.publish([*life(job, 1), JobDeleted(job=job, by="me")])
        async with asyncio.timeout(10):  # until the job's own deletion is carried out
            while int(await box.store.meta("actions_cursor") or 0) < await box.store.cursor():
                await asyncio.sleep(0.01)
        folder = await asyncio.to_thread(lay_out, nats.data_dir, job)
        await box.sweeper.sweep()
        assert await box.deletions() == [], "too young: somebody may still be at it"
        await asyncio.to_thread(_age, folder.root)
        await box.sweeper.sweep()
        await until(lambda: not folder.root.exists())
        (said,) = await box.deletions()
        assert (said.job, said.kind, said.path) == (None, "other", f"jobs/{job}")


def _age(root: Path) -> None:
    import os

    for path in (*root.iterdir(), root):
        os.utime(path, (1, 1))


async def test_a_person_and_a_disk_alert_start_a_sweep_and_nothing_else_does(nats: NatsBox) -> None:
    job = new_id()
    folder = await asyncio.to_thread(lay_out, nats.data_dir, job)
    off = Retention(keep_jobs=0, free_bytes=0, enabled=False)
    async with swept(nats, off, sweeps=True) as box:
        await box.publish(life(job, 99))
        full = AlertRaised(alert="disk-data-used-data", severity="warning", message="full", rule="disk.data.used")
        await box.publish([AlertRaised(alert="cpu", severity="warning", message="hot", rule="cpu.pressure")])
        assert not box.sweeper.swept.is_set()
        await box.publish([full])
        async with asyncio.timeout(10):
            await box.sweeper.swept.wait()
        assert folder.root.exists(), "retention is off"
        box.sweeper.swept.clear()
        stale = UserAction(user="me", action=SWEEP, ts=ago(1))
        await box.publish([stale, UserAction(user="me", action=SWEEP)])
        async with asyncio.timeout(10):
            await box.sweeper.swept.wait()
        await until(lambda: not folder.root.exists())
