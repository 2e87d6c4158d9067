"""Facts of a newer program about our workers: skipped, and what is said beside them is heard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.supervisor.staffing import Staffing
from bus.connection import Bus
from bus.events import WorkerOffline
from bus.ids import new_id
from tests.integration.conftest import NatsBox
from tests.unit.supervisor.staff import Staff


@pytest.fixture
async def staff(tmp_path: Path) -> AsyncIterator[Staff]:
    staff = Staff(tmp_path, most=2)
    yield staff
    await staff.pool.stop(0)


async def say_what_nobody_can_read(bus: Bus, worker: str) -> None:
    ident = new_id()
    body = b'{"type":"worker:offline","v":9,"worker":7}'
    await bus.store(f"evt.worker.offline.{worker}", body, {"Nats-Msg-Id": ident})


async def say_frozen(bus: Bus, worker: str) -> None:
    await bus.publish(WorkerOffline(worker=worker, stage="cut", reason="frozen: a test"))


async def test_a_fact_that_cannot_be_read_hides_no_frozen_worker(
    nats: NatsBox, staff: Staff, caplog: pytest.LogCaptureFixture
) -> None:
    bus = await nats.bus("supervisor")
    await staff.pool.start(2)
    first, second = [child.status.worker or "" for child in staff.pool.children]
    await say_what_nobody_can_read(bus, first)
    await say_frozen(bus, second)  # said before anybody listens
    serving = asyncio.create_task(Staffing(bus, {"cut": staff.pool}, {"cut": (2, 2)}).serve())
    try:
        await staff.until(lambda: len(staff.ready) == 3)
        await say_what_nobody_can_read(bus, first)  # and live
        await say_frozen(bus, first)
        await staff.until(lambda: len(staff.ready) == 4)
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    assert [death.reason for death in staff.deaths] == ["frozen: a test"] * 2
    assert "could not be brought" not in caplog.text
