"""A worker whose tasks beside the work have failed: it says why, gives back what it has and ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.control.ledger import Ledger
from appliance.parent import StatusPipe
from appliance.settings import Supervisor
from appliance.worker.__main__ import worker_settings
from appliance.worker.loop import Worker, WorkerSettings
from appliance.worker.stage_process import StageProcess
from bus.errors import BusUnavailable, Denied
from bus.events import JobDownloading
from bus.registry import Registry, WorkerState
from tests.integration.appliance.test_worker_cancel import WAIT_S, Endless, in_flight, queued_job
from tests.integration.conftest import NatsBox


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Endless:
    endless = Endless()
    monkeypatch.setattr(StageProcess, "run", lambda process: endless.run(process))
    return endless


def settings(nats: NatsBox) -> WorkerSettings:
    config = Config(data_dir=nats.data_dir, supervisor=Supervisor(stop_grace_s=0.1))
    return worker_settings(config, "download")


async def test_one_that_nobody_could_see_ends_and_its_work_goes_to_another(
    nats: NatsBox, tmp_path: Path, stage: Endless, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    person, bus = await nats.bus("cli"), await nats.bus("worker")
    job = await queued_job(person, tmp_path)

    async def refused(_registry: Registry, state: WorkerState) -> None:
        await stage.began.wait()
        raise Denied(f"{state.stage} may not register")

    async with asyncio.timeout(WAIT_S), Ledger(bus) as ledger:
        with monkeypatch.context() as patched:
            patched.setattr(Registry, "put", refused)
            with pytest.raises(Denied, match="download may not register"):
                await Worker(settings(nats), bus, StatusPipe(), ledger).serve()
        assert stage.killed.is_set()
        assert "the worker's report failed: download may not register" in caplog.text
        assert await in_flight(person) == 1
        stage.began.clear()
        another = Worker(settings(nats), bus, StatusPipe(), ledger)
        serving = asyncio.create_task(another.serve())
        await stage.began.wait()
        last = await person.last_fact(job)
        assert last is not None
        assert isinstance(last.event, JobDownloading)
        assert last.event.worker == another.id
        assert last.event.attempt == 1, "no attempt was lost"
        another.stop()
        await serving


async def test_one_that_hears_no_cancels_any_more_ends(nats: NatsBox, caplog: pytest.LogCaptureFixture) -> None:
    bus, heard = await nats.bus("worker"), await nats.bus("worker")
    async with asyncio.timeout(WAIT_S), Ledger(bus) as ledger:
        worker = Worker(settings(nats), bus, StatusPipe(), ledger)
        worker._bus.live = heard.live  # type: ignore[method-assign]
        serving = asyncio.create_task(worker.serve())
        while not await Registry(bus).all():
            await asyncio.sleep(0.05)
        await heard.close()
        with pytest.raises(BusUnavailable, match="closed"):
            await serving
    assert "listening for cancels failed" in caplog.text
