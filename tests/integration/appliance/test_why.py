"""`appliance why` against a real bus: places in a queue are those of the bus."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from click.testing import CliRunner, Result

from appliance.cli import main
from appliance.control.ledger import hold
from appliance.intake import cancel_job, create_job
from appliance.supervisor.lock import lock_box
from bus.connection import QueuePlace
from bus.events import JobOptions, JobSource
from bus.ids import new_id
from tests.integration.appliance.dispatching import dispatcher, stored
from tests.integration.conftest import NatsBox

SOURCE = JobSource(kind="file", location="/v/talk.mp4", name="talk.mp4")


async def test_places_in_a_queue_move_as_work_is_taken_and_cancelled(nats: NatsBox) -> None:
    bus = await nats.bus("cli")
    jobs = [await create_job(bus, SOURCE, JobOptions()) for _ in range(4)]

    async def places() -> list[QueuePlace | None]:
        return [await bus.queue_place("download", job) for job in jobs]

    assert await places() == [QueuePlace(ahead, delivered=False) for ahead in range(4)]
    worker = await nats.bus("worker")
    async with worker.work("download") as work:
        command = await work.next(5.0)
        assert command is not None
        assert await places() == [QueuePlace(0, delivered=True), *(QueuePlace(n, delivered=False) for n in range(3))]
        await cancel_job(bus, jobs[1], by="me")
        expected = [
            QueuePlace(0, delivered=True),
            None,
            QueuePlace(0, delivered=False),
            QueuePlace(1, delivered=False),
        ]
        async with dispatcher(nats), asyncio.timeout(10):  # it takes the command out of the queue
            while await places() != expected:
                await asyncio.sleep(0.02)
    assert await bus.queue_place("cut", jobs[0], 1) is None


async def test_the_command_says_it(nats: NatsBox, tmp_path: Path) -> None:
    config = tmp_path / "appliance.yaml"
    await asyncio.to_thread(config.write_text, f"data_dir: {nats.data_dir}\n")

    async def why(*words: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, main, ["-c", str(config), "why", *words])

    bus = await nats.bus("supervisor")
    async with dispatcher(nats):
        job = await create_job(bus, SOURCE, JobOptions())
        last = (await bus.last_facts(f"evt.*.*.{job}"))[-1].seq
        async with asyncio.timeout(10):
            while (await stored(nats))[0] < last:
                await asyncio.sleep(0.01)
        shown = await why(job)
        assert "the box is down" in shown.output
        lock = await asyncio.to_thread(lock_box, nats.data_dir)
        shown = await why(job)
        assert "no download worker reports" in shown.output
        await hold(bus, "download", "operator", by="anna", reason="moving disks")
        told = json.loads((await why(job, "--json")).output)
        assert (told["state"], [reason["state"] for reason in told["reasons"]]) == ("queued", ["held"])
        missing = await why(new_id())
        assert (missing.exit_code, "appliance jobs list" in missing.output) == (1, True)
        os.close(lock)
