"""A pause is kept by the log: whatever is killed, nothing new begins until somebody resumes it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.boxlink import connect
from appliance.intake import create_job, source_of
from bus.events import AnyEvent, JobDownloading, JobFailed, JobOptions, JobSource, UserAction, WorkerScaled
from bus.feed import Feed, LiveEvent
from bus.registry import Registry
from tests.faults.harness import RealBox

pytestmark = pytest.mark.slow
WAIT_S = 60.0


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[RealBox]:
    box = await asyncio.to_thread(RealBox, tmp_path, "hardware: {enabled: false}\ncache: {url: 'off'}\n")
    await asyncio.to_thread(box.start)
    yield box
    await asyncio.to_thread(box.stop)
    assert await asyncio.to_thread(box.leftovers) == []


def command(box: RealBox, *words: str) -> Any:
    """Runs `appliance WORDS --json`; its answer."""
    done = subprocess.run(
        [sys.executable, "-m", "appliance", "-c", str(box.config_path), *words, "--json"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 or words[0] == "status", done.stderr
    return json.loads(done.stdout)


def refused(box: RealBox) -> JobSource:
    """A source that ends its job quickly: it is no video."""
    path = box.folder / "notes.mp4"
    path.write_text("no video")
    return source_of(str(path))


def staff_of(status: Any) -> dict[str, int]:
    return {stage: row["workers"] for stage, row in status["stages"].items()}


async def next_of(feed: Feed[LiveEvent], kind: type, job: str | None = None) -> AnyEvent:
    async for fact in feed:
        if isinstance(fact.event, kind) and fact.event.job == job:
            return fact.event
    raise AssertionError("the feed ended")


async def test_a_pause_survives_the_death_of_every_process(box: RealBox) -> None:
    said = await asyncio.to_thread(command, box, "pause", "download", "--reason", "card moves")
    assert said["changed"] == ["download"]
    async with asyncio.timeout(WAIT_S), box.bus() as bus:
        job = await create_job(bus, await asyncio.to_thread(refused, box), JobOptions())
        victims = {"download-1": ("appliance.worker", "download"), "dispatcher": ("appliance.dispatcher",)}
        for service, words in {**victims, "bus": ("nats-server",)}.items():
            assert await asyncio.to_thread(box.kill, *words)
            while len(await bus.read(0, f"evt.service.up.{service}")) < 2:  # a feed would miss it in the outage
                await asyncio.sleep(0.1)
    await asyncio.to_thread(command, box, "drain", "faces", "--for", "1h")
    async with await connect(box.config, "dispatcher") as bus:
        await bus.publish(WorkerScaled(stage="crop", before=1, after=2, reason="a test"))
    await asyncio.to_thread(box.kill_everything)
    await asyncio.to_thread(box.start)
    async with asyncio.timeout(WAIT_S), box.bus() as bus, bus.live("evt.>") as feed:
        status = await asyncio.to_thread(command, box, "status")
        assert status["stages"]["download"]["mode"] == "pause"
        assert [(held["target"], held["mode"], held["reason"]) for held in status["holds"]] == [
            ("download", "pause", "card moves"),
            ("faces", "drain", ""),
        ]
        wanted = {"download": 1, "transcribe": 1, "moments": 1, "faces": 0, "crop": 2, "cut": 1}
        while staff_of(status) != wanted:  # those of the life before are still listed until their entries are removed
            status = await asyncio.to_thread(command, box, "status")
        assert status["verdict"] == "ok", status["reasons"]
        assert status["stages"]["download"]["pending"] == 1
        assert [type(fact.event).__name__ for fact in await bus.read(0, f"evt.*.*.{job}")] == ["JobCreated"]
        drained = await asyncio.to_thread(command, box, "drain", "all", "--timeout", "30")
        assert drained["drained"] is True
        assert await Registry(bus).all() == [], "a drain ends the workers"
        assert len(drained["holds"]) == 6
        assert (await asyncio.to_thread(command, box, "resume", "all"))["holds"] == []
        started = await next_of(feed, JobDownloading, job)
        assert isinstance(started, JobDownloading)
        assert (started.attempt, started.claim) == (1, 1)
        await next_of(feed, JobFailed, job)
        acted = [fact.event for fact in await bus.read(0, "evt.user.action.>")]
        assert [action.action for action in acted if isinstance(action, UserAction)] == [
            *("control.pause", "control.drain", "control.drain", "control.resume")
        ]
