"""Puts facts on the bus and into the database, as a dispatcher would, and files into the data folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

from appliance.store.projection import StoredFact
from appliance.store.writer import Writer
from bus.events import AnyEvent, Event, JobCompleted
from bus.ids import new_id
from stages.folder import JobFolder
from tests.integration.web.conftest import WebBox
from tests.unit.appliance import facts

VIDEO = bytes(range(256)) * 1000


async def project(web: WebBox) -> int:
    """Writes what the stream holds into `appliance.db`; its last sequence."""
    bus = web.services.bus
    writer = await Writer.open(web.config.data_dir / "appliance.db")
    try:
        await writer.set_meta("epoch", (await bus.stream_state()).epoch)
        after = await writer.cursor()
        while page := await bus.read(after, "evt.>", 500):
            await writer.apply([StoredFact(stored.seq, stored.subject, stored.data) for stored in page])
            after = page[-1].seq
        return after
    finally:
        await writer.close()


async def tell(web: WebBox, *events: Event) -> int:
    """Publishes and projects."""
    bus = await web.nats.bus()
    for event in events:
        await bus.publish(event)
    return await project(web)


def life(job: str, *, clips: int = 2, end: str = "completed") -> list[AnyEvent]:
    """A job's facts: `completed`, `clip-failed` (its last clip is), `failed`, or `running`."""
    told: list[AnyEvent] = [facts.created(job), facts.started(job, "download"), facts.done(job, "download")]
    if end == "failed":
        return [*told, facts.job_failed(job, "transcribe")]
    if end == "running":
        return [*told, facts.started(job, "transcribe")]
    told += [facts.done(job, "transcribe"), facts.done(job, "moments", clips=clips)]
    for clip in range(1, clips + 1):
        told.append(facts.planned(job, clip))
        if end == "clip-failed" and clip == clips:
            told.append(facts.clip_failed(job, clip, "cut"))
        else:
            told += [facts.done(job, stage, clip) for stage in ("faces", "crop", "cut")]
    failed = 1 if end == "clip-failed" else 0
    return [*told, JobCompleted(job=job, clips_ready=clips - failed, clips_failed=failed, seconds=9.0)]


async def finished_job(web: WebBox, *, clips: int = 2) -> str:
    """A completed job with its files."""
    job = new_id()
    await tell(web, *life(job, clips=clips))
    await asyncio.to_thread(write_files, web.config.data_dir, job, clips)
    return job


def write_files(data_dir: Path, job: str, clips: int) -> None:
    """What the stages leave of a completed job."""
    folder = JobFolder.of(data_dir, job)
    folder.output.mkdir(parents=True)
    folder.root.mkdir(parents=True)
    for clip in range(1, clips + 1):
        for suffix, content in ((".mp4", VIDEO), (".jpg", b"jpeg"), (".srt", b"1\n"), (".vtt", b"WEBVTT\n")):
            folder.output_file(clip, suffix).write_bytes(content)
    (folder.root / "job.log").write_text("".join(f"line {n}\n" for n in range(1000)))
