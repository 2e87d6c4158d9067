"""A step whose saying was cut short is no step: the next look begins with what the log says."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from appliance.dispatcher import autoscale
from appliance.dispatcher.autoscale import Autoscaler
from appliance.dispatcher.scaling import Machine
from appliance.dispatcher.settings import Dispatcher
from bus.connection import QueueDepth
from bus.events import STAGES, Event, WorkerScaled
from bus.registry import Registry, WorkerState
from tests.integration.conftest import NatsBox

GIB = 1024**3
ROOMY = Machine(cores=8, load_1m=1.0, memory_total_bytes=64 * GIB, memory_free_bytes=48 * GIB, gpu_free_bytes=None)
DEPTHS = {stage: QueueDepth(pending=9, in_flight=1, redelivered=0, oldest_s=1.0) for stage in STAGES}


async def test_a_step_that_was_not_said_in_time_is_said_by_the_next_look(
    nats: NatsBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = await nats.bus("dispatcher")
    monkeypatch.setattr(autoscale, "_machine_of", lambda view: ROOMY)
    state = WorkerState(worker="w1", stage="download", pid=1, host="h", started_at=datetime.now(UTC), rss_bytes=1)
    await Registry(bus).put(state)
    scaler = Autoscaler(
        bus, Dispatcher(), {"download": (1, 3)}, mode=lambda stage: "run", level=lambda stage: "critical"
    )
    saying, publish = asyncio.Event(), bus.publish

    async def slow(event: Event) -> int:
        saying.set()
        return await asyncio.Future()

    monkeypatch.setattr(bus, "publish", slow)
    look = asyncio.create_task(scaler.look(DEPTHS))
    await saying.wait()
    look.cancel()
    await asyncio.wait([look])
    assert look.cancelled()
    monkeypatch.setattr(bus, "publish", publish)
    await scaler.look(DEPTHS)
    said = [fact.event for fact in await bus.read(0, "evt.worker.scaled.*")]
    assert [(fact.before, fact.after) for fact in said if isinstance(fact, WorkerScaled)] == [(1, 2)]
