"""A cancel that falls into the moment between a worker's look at the job and the start of its stage."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.control.ledger import Ledger
from appliance.intake import cancel_job, create_job, items_to_retry, retry_job, source_of
from appliance.parent import StatusPipe
from appliance.store.projection import StoredFact
from appliance.store.writer import Writer
from appliance.worker.__main__ import worker_settings
from appliance.worker.loop import Worker
from appliance.worker.stage_process import StageProcess
from bus.connection import Bus
from bus.events import JobOptions
from bus.ids import new_id
from bus.stored import Stored
from stages.base import StageResult
from tests.integration.conftest import NatsBox

WAIT_S = 60.0


class Endless:
    """In place of the stage's process: it runs until it is killed."""

    def __init__(self) -> None:
        self.began, self.killed = asyncio.Event(), asyncio.Event()

    async def run(self, _process: StageProcess) -> StageResult:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.killed.set()
        raise AssertionError("never")


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Endless:
    endless = Endless()
    monkeypatch.setattr(StageProcess, "run", lambda process: endless.run(process))
    return endless


async def queued_job(bus: Bus, folder: Path) -> str:
    path = folder / "talk.mp4"
    await asyncio.to_thread(path.write_bytes, b"x")
    return await create_job(bus, await asyncio.to_thread(source_of, str(path)), JobOptions())


async def in_flight(bus: Bus) -> int:
    depth = (await bus.queue_depths())["download"]
    return depth.pending + depth.in_flight


async def test_it_stops_the_stage_before_it_runs(
    nats: NatsBox, tmp_path: Path, stage: Endless, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, bus = await nats.bus("cli"), await nats.bus("worker")
    job = await queued_job(person, tmp_path)
    read = bus.read
    async with asyncio.timeout(WAIT_S), Ledger(bus) as ledger:
        worker = Worker(worker_settings(Config(data_dir=nats.data_dir), "download"), bus, StatusPipe(), ledger)

        async def cancelled_meanwhile(*args: object, **more: object) -> list[Stored]:
            """The worker has claimed the attempt and reads what it needs for the stage."""
            monkeypatch.setattr(bus, "read", read)
            assert await cancel_job(person, job, by="anna")
            while not worker._ended_seq:
                await asyncio.sleep(0.01)
            return await read(*args, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(bus, "read", cancelled_meanwhile)
        serving = asyncio.create_task(worker.serve())
        while await in_flight(person):
            await asyncio.sleep(0.05)
        assert not stage.began.is_set() or stage.killed.is_set()
        worker.stop()
        await serving


async def test_a_cancel_that_a_retry_has_undone_stops_nothing(nats: NatsBox, tmp_path: Path, stage: Endless) -> None:
    """The live feed may be late: what it says must not kill the work that came after."""
    person, bus = await nats.bus("cli"), await nats.bus("worker")
    job = await queued_job(person, tmp_path)
    assert await cancel_job(person, job, by="anna")
    database = nats.data_dir / "appliance.db"
    store = await Writer.open(database)
    await store.apply([StoredFact(one.seq, one.subject, one.data) for one in await person.read(0)])
    await store.close()
    (_, cancelled_seq) = await asyncio.to_thread(items_to_retry, database, job)
    await (await nats.bus("dispatcher")).purge_commands(job, cancelled_seq)
    await retry_job(person, database, job, by="anna")
    async with asyncio.timeout(WAIT_S), Ledger(bus) as ledger:
        settings = worker_settings(Config(data_dir=nats.data_dir), "download")
        worker = Worker(settings, bus, StatusPipe(), ledger)
        serving = asyncio.create_task(worker.serve())
        await stage.began.wait()
        late = await person.get(cancelled_seq)
        assert late is not None
        worker.hear(late)
        assert await in_flight(person) == 1
        assert not stage.killed.is_set()
        assert await cancel_job(person, job, by="anna")
        await stage.killed.wait()
        worker.stop()
        await serving


async def test_a_fact_of_another_version_makes_no_worker_deaf(nats: NatsBox, tmp_path: Path, stage: Endless) -> None:
    person, newer, bus = await nats.bus("cli"), await nats.bus("supervisor"), await nats.bus("worker")
    job, other = await queued_job(person, tmp_path), new_id()
    async with asyncio.timeout(WAIT_S), Ledger(bus) as ledger:
        settings = worker_settings(Config(data_dir=nats.data_dir), "download")
        worker = Worker(settings, bus, StatusPipe(), ledger)
        serving = asyncio.create_task(worker.serve())
        await stage.began.wait()
        await newer.store(f"evt.job.archived.{other}", b'{"type":"job:archived"}', {"Nats-Msg-Id": other})
        assert await cancel_job(person, job, by="anna")
        await asyncio.wait_for(stage.killed.wait(), 10.0)
        worker.stop()
        await serving
