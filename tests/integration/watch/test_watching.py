"""The watch folder on a real bus: a file becomes a job once, whatever happens; what is refused is said once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from appliance.control.ledger import hold, release
from appliance.dispatcher.service import Dispatcher
from appliance.intake import delete_job
from appliance.store.writer import Writer
from appliance.watch.service import WatchFolder
from appliance.watch.settings import Input
from bus.connection import Bus
from bus.events import AlertCleared, AlertRaised, Command, FileRefused, FileUploaded, JobCreated
from stages.download import Options
from tests.integration.appliance.dispatching import QUICK
from tests.integration.conftest import NatsBox

MP4 = b"\x00\x00\x00\x20ftypisom" + bytes(1000)
FAST = Input(poll_s=0.2, settle_s=0.3, max_per_minute=6000)


def video(number: int) -> bytes:
    return MP4 + str(number).encode()


@contextlib.asynccontextmanager
async def watching(nats: NatsBox, settings: Input = FAST) -> AsyncIterator[Path]:
    """A dispatcher that watches; yields the folder."""
    folder = nats.data_dir / "input"
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    store = await Writer.open(nats.data_dir / "appliance.db")
    bus = await nats.bus("dispatcher")
    watch = WatchFolder(bus, store, nats.data_dir, settings, Options(max_bytes=2**20))
    running = Dispatcher(bus, store, nats.data_dir, QUICK, background={"watch": watch.serve})
    await running.prepare()
    task = asyncio.create_task(running.serve())
    try:
        yield folder
        assert not task.done(), "the dispatcher ended"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


async def said(bus: Bus, kind: str = "file") -> list[FileUploaded | FileRefused]:
    return [stored.event for stored in await bus.read(0, f"evt.{kind}.>", 1000)]  # type: ignore[misc]


async def jobs(bus: Bus) -> list[JobCreated]:
    return [stored.event for stored in await bus.read(0, "evt.job.created.>", 1000)]  # type: ignore[misc]


async def until_said(bus: Bus, count: int, kind: str = "file") -> list[FileUploaded | FileRefused]:
    """The facts about files, as soon as there are `count`."""
    async with asyncio.timeout(20), bus.live(f"evt.{kind}.>") as feed:
        while len(facts := await said(bus, kind)) < count:
            await feed.next(0.5)
    return facts


async def settled(look: Callable[[], object], rounds_s: float = 1.2) -> None:
    """Time for several looks into the folder in which nothing may happen: that nothing comes is the test."""
    look()
    await asyncio.sleep(rounds_s)


async def test_a_settled_file_is_a_job_with_its_sum_in_one_commit(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    async with watching(nats) as folder:
        (folder / "talks").mkdir()
        path = folder / "talks" / "a talk – ünïcode.mp4"
        path.write_bytes(video(1))
        (uploaded,) = await until_said(bus, 1)
        assert isinstance(uploaded, FileUploaded)
        (created,) = await jobs(bus)
        assert (uploaded.via, uploaded.path, uploaded.size_bytes) == (
            "watch",
            f"input/talks/{path.name}",
            len(video(1)),
        )
        assert (uploaded.job, uploaded.fingerprint) == (created.job, created.origin.fingerprint)
        assert (created.origin.kind, created.origin.location) == ("file", str(path))
        first, second, third = await bus.read(0, ">", 10)
        assert [first.event, second.event] == [uploaded, created]
        assert third.command == Command(
            stage="download", job=str(created.job), id=third.command.id, ts=third.command.ts
        )
        await settled(path.stat)
        assert len(await said(bus)) == 1
        assert path.read_bytes() == video(1), "the source stays where it is"


async def test_a_file_that_grows_waits_and_a_renamed_one_comes(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    async with watching(nats, Input(poll_s=0.2, settle_s=0.8, max_per_minute=6000)) as folder:
        path, part = folder / "grows.mp4", folder / "other.mp4.part"
        part.write_bytes(video(2))
        for end in range(100, len(MP4), 250):  # two seconds, never still for as long as it takes
            path.write_bytes(video(1)[:end])
            await asyncio.sleep(0.5)
            assert await said(bus) == []
        path.write_bytes(video(1))
        (uploaded,) = await until_said(bus, 1)
        assert (uploaded.name, uploaded.size_bytes) == ("grows.mp4", len(video(1)))
        part.rename(folder / "other.mp4")
        assert (await until_said(bus, 2))[1].name == "other.mp4"


async def test_a_stalled_copy_is_not_taken_while_its_writer_lives(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    async with watching(nats) as folder:
        with (folder / "a.mp4").open("wb") as copy:
            copy.write(video(1)[:500])
            copy.flush()
            await settled(lambda: None, 2.0)
            assert await said(bus) == []
            copy.write(video(1)[500:])
        (uploaded,) = await until_said(bus, 1)
        assert uploaded.size_bytes == len(video(1))


async def test_what_is_refused_is_said_once_with_its_reason(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    outside = nats.data_dir / "outside.mp4"
    outside.write_bytes(video(9))
    codes = {
        "notes.txt": "not-a-video",
        "empty.mp4": "empty",
        "impostor.mkv": "extension-mismatch",
        "large.mp4": "too-large",
        "link.mp4": "link",
        "pipe.mp4": "not-a-file",
        "?.mp4": "bad-name",
        "two?lines.mp4": "bad-name",
    }
    async with watching(nats) as folder:
        (folder / "notes.txt").write_text("hello")
        (folder / "empty.mp4").touch()
        (folder / "impostor.mkv").write_bytes(video(1))
        (folder / "large.mp4").write_bytes(MP4 + bytes(2**20))
        (folder / "link.mp4").symlink_to(outside)
        os.mkfifo(folder / "pipe.mp4")
        (folder / os.fsdecode(b"\xff.mp4")).touch()
        (folder / "two\nlines.mp4").touch()
        facts = await until_said(bus, len(codes))
        assert {fact.name.replace("\N{REPLACEMENT CHARACTER}", "?"): fact.code for fact in facts} == codes  # type: ignore[union-attr]
        assert all(isinstance(fact, FileRefused) and len(fact.reason) > 15 for fact in facts)
        await settled(lambda: None)
        assert len(await said(bus)) == len(codes)
        assert await jobs(bus) == []
    async with watching(nats) as folder:  # nor after a restart
        (folder / "notes.txt").write_text("hello again")
        facts = await until_said(bus, len(codes) + 1)
        await settled(lambda: None)
        assert len(await said(bus)) == len(codes) + 1, "only what has changed"
        (folder / "empty.mp4").write_bytes(video(1))
        assert isinstance((await until_said(bus, len(codes) + 2))[-1], FileUploaded)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_what_may_not_be_read_is_taken_when_it_may(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    async with watching(nats) as folder:
        path = folder / "a.mp4"
        path.write_bytes(video(1))
        path.chmod(0)
        (refused,) = await until_said(bus, 1)
        assert isinstance(refused, FileRefused)
        assert refused.code == "file-denied"
        path.chmod(0o600)
        assert isinstance((await until_said(bus, 2))[1], FileUploaded)


async def test_the_same_content_is_one_job_until_that_is_deleted(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    async with watching(nats) as folder:
        (folder / "a.mp4").write_bytes(video(1))
        (uploaded,) = await until_said(bus, 1)
        (folder / "copy.mp4").write_bytes(video(1))
        duplicate = (await until_said(bus, 2))[1]
        assert isinstance(duplicate, FileRefused)
        assert (duplicate.code, duplicate.same_as, duplicate.sha256) == ("duplicate", uploaded.job, uploaded.sha256)
        assert (folder / "copy.mp4").read_bytes() == video(1), "it is never removed"
        assert len(await jobs(bus)) == 1
        assert uploaded.job is not None
        await delete_job(bus, uploaded.job, by="me")
        (folder / "again.mp4").write_bytes(video(1))
        again = (await until_said(bus, 3))[2]
        assert isinstance(again, FileUploaded)
        assert again.file == uploaded.file
        assert again.job != uploaded.job


async def test_copies_that_settle_together_are_one_job_or_each_its_own_when_asked(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    folder = nats.data_dir / "input"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (folder / name).write_bytes(video(1))
    async with watching(nats):
        facts = await until_said(bus, 3)
        assert Counter(type(fact) for fact in facts) == {FileUploaded: 1, FileRefused: 2}
    async with watching(nats, Input(poll_s=0.2, settle_s=0.3, max_per_minute=6000, duplicates="allow")):
        for name in ("d.mp4", "e.mp4"):
            (folder / name).write_bytes(video(1))
        facts = await until_said(bus, 5)
        assert [type(fact) for fact in facts[3:]] == [FileUploaded, FileUploaded]
        await settled(lambda: None)
    assert len(await jobs(bus)) == 3


async def test_files_wait_while_the_intake_is_held(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    await hold(bus, "intake", "storage", by="dispatcher", reason="the disk is full")
    async with watching(nats) as folder:
        (folder / "a.mp4").write_bytes(video(1))
        (folder / "notes.txt").write_text("hello")
        await settled(lambda: None, 1.5)
        assert await said(bus) == []
        await release(bus, "intake", "storage", by="dispatcher")
        assert len(await until_said(bus, 2)) == 2


async def test_many_files_come_at_a_bounded_rate(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    folder = nats.data_dir / "input"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.mp4").write_bytes(video(number))
        os.utime(folder / f"{number}.mp4", ns=(0, number))
    began = asyncio.get_running_loop().time()
    async with watching(nats, Input(poll_s=0.2, settle_s=0, max_per_minute=600)):
        facts = await until_said(bus, 40)
    assert asyncio.get_running_loop().time() - began > 39 * 0.1 * 0.9, "600 a minute are ten a second"
    assert [fact.name for fact in facts] == [f"{number}.mp4" for number in range(40)], "the oldest first"


async def test_a_missing_folder_is_an_alert_until_it_is_there(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    async with watching(nats) as folder:
        await asyncio.to_thread(folder.rmdir)
        (raised,) = await until_said(bus, 1, "alert")
        assert isinstance(raised, AlertRaised)
        assert "cannot be read: No such file" in raised.message
        await asyncio.to_thread(folder.mkdir)
        (folder / "a.mp4").write_bytes(video(1))
        await until_said(bus, 1)
        assert [type(fact) for fact in await said(bus, "alert")] == [AlertRaised, AlertCleared]


async def test_an_outage_of_the_bus_loses_nothing(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    async with watching(nats) as folder:
        await nats.kill()
        (folder / "a.mp4").write_bytes(video(1))
        await settled(lambda: None, 1.0)
        await nats.start()
        await until_said(bus, 1)
        await settled(lambda: None)
    assert len(await jobs(bus)) == 1


async def test_killed_at_any_moment_each_content_is_one_job(nats: NatsBox, tmp_path: Path) -> None:
    """`kill -9` of the dispatcher, again and again, while files arrive; some of them twice."""
    bus = await nats.bus("supervisor")
    folder = nats.data_dir / "input"
    folder.mkdir()
    config = tmp_path / "appliance.yaml"
    config.write_text(
        f"data_dir: {nats.data_dir}\ncache: {{url: 'off'}}\n"
        "input: {poll_s: 0.2, settle_s: 0.2, max_per_minute: 6000}\n"
    )
    environment = {**os.environ, "APPLIANCE_CONFIG": str(config)}
    process: subprocess.Popen[bytes] | None = None

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("ab") as log:
            argv = [sys.executable, "-m", "appliance.dispatcher"]
            return subprocess.Popen(argv, env=environment, stdout=log, stderr=log)

    wanted = 0
    try:
        for turn in range(5):
            for number in range(12):
                (folder / f"{turn}-{number}.mp4").write_bytes(video(100 * turn + number))
                wanted += 1
            (folder / f"{turn}-copy.mp4").write_bytes(video(100 * turn))
            process = start()
            # Killed while it works: after the first of these files is said, a little later in each turn.
            await until_said(bus, turn * 13 + 1 + 2 * turn)
            process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(process.wait, 10)
        process = start()
        await until_said(bus, wanted + 5)
        await settled(lambda: None)
        process.terminate()
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)
    facts = await said(bus)
    taken = [fact for fact in facts if isinstance(fact, FileUploaded)]
    assert len(taken) == len({fact.sha256 for fact in taken}) == wanted
    assert Counter(fact.code for fact in facts if isinstance(fact, FileRefused)) == {"duplicate": 5}
    assert sorted(str(job.job) for job in await jobs(bus)) == sorted(str(fact.job) for fact in taken)
    assert len(await bus.read(0, "cmd.download.>", 1000)) == wanted
