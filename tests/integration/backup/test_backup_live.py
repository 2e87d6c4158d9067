"""Backups of a box at work, restored; and kills at any moment of either."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.backup.create import create
from appliance.backup.restore import restore, verify
from appliance.config import load
from appliance.dispatcher.service import Dispatcher
from appliance.errors import BackupDamaged
from appliance.intake import create_job
from appliance.sqlite import sqlite3
from appliance.store.database import open_writer
from appliance.store.projection import Projection, StoredFact
from appliance.store.queries import Store, dump
from appliance.store.schema import PROJECTED
from appliance.store.writer import Writer
from bus.connection import Bus
from bus.events import JobOptions, JobSource
from bus.ids import new_id
from tests.integration.appliance.dispatching import QUICK
from tests.integration.conftest import NatsBox, nats_box
from tests.unit.appliance import facts
from tests.unit.backup.box import Box

SOURCE = JobSource(kind="file", location="/v/talk.mp4", name="talk.mp4", fingerprint="f")


@contextlib.asynccontextmanager
async def dispatcher(nats: NatsBox) -> AsyncIterator[None]:
    store = await Writer.open(nats.data_dir / "appliance.db")
    running = Dispatcher(await nats.bus("dispatcher"), store, nats.data_dir, QUICK)
    await running.prepare()
    task = asyncio.create_task(running.serve())
    try:
        yield
        assert not task.done(), "the dispatcher ended"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


def rows(path: Path, tables: tuple[str, ...] = (*PROJECTED, "events")) -> bytes:
    connection = sqlite3.connect(path)
    try:
        return dump(connection, tables)
    finally:
        connection.close()


def replayed(path: Path, stored: list[StoredFact]) -> bytes:
    """The rows that just these facts make."""
    connection = open_writer(path)
    try:
        Projection(connection).apply(stored)
        return dump(connection, (*PROJECTED, "events"))
    finally:
        connection.close()


async def projected(path: Path, seq: int) -> None:
    def cursor() -> int:
        with Store(path) as store:
            return store.cursor()

    async with asyncio.timeout(30):
        while await asyncio.to_thread(cursor) < seq:
            await asyncio.sleep(0.02)


async def busy(bus: Bus) -> None:
    """Jobs come and go as fast as the bus takes them."""
    while True:
        job = new_id()
        await bus.commit([facts.created(job), facts.started(job, "download"), facts.done(job, "download")])
        await bus.commit([facts.done(job, "transcribe"), facts.done(job, "moments"), facts.planned(job, 1)])
        await bus.commit([facts.started(job, "cut", 1), facts.done(job, "cut", 1)])


async def test_a_backup_under_load_is_the_box_at_its_position(nats: NatsBox, tmp_path: Path) -> None:
    bus = await nats.bus("supervisor")
    config = await asyncio.to_thread(load, None, {"APPLIANCE_DATA_DIR": str(nats.data_dir)})
    files = [tmp_path / f"{number}.tar.gz" for number in range(4)]
    async with dispatcher(nats):
        writers = [asyncio.create_task(busy(await nats.bus("supervisor"))) for _ in range(2)]
        made = []
        for number, file in enumerate(files):
            await projected(nats.data_dir / "appliance.db", 200 * (number + 1))
            made.append(await asyncio.to_thread(create, config, file))
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
        last = (await bus.stream_state()).last_seq
        await projected(nats.data_dir / "appliance.db", (await bus.last_facts("evt.>"))[-1].seq)
    stream: list[StoredFact] = []
    while batch := await bus.read(stream[-1].seq if stream else 0, "evt.>", 1000):
        stream += [StoredFact(fact.seq, fact.subject, fact.data) for fact in batch]
    for number, (file, backup) in enumerate(zip(files, made, strict=True)):
        manifest = await asyncio.to_thread(restore, file, tmp_path / f"new-{number}")
        assert manifest == backup.manifest
        assert 200 * (number + 1) <= manifest.seq <= last
        assert manifest.epoch == (await bus.stream_state()).epoch
        wanted = [fact for fact in stream if fact.seq <= manifest.seq]
        assert manifest.facts == len(wanted)
        known = await asyncio.to_thread(replayed, tmp_path / f"replayed-{number}.db", wanted)
        assert await asyncio.to_thread(rows, tmp_path / f"new-{number}" / "appliance.db") == known


async def test_a_restored_box_goes_on_with_its_open_jobs(nats: NatsBox, tmp_path: Path) -> None:
    bus = await nats.bus("supervisor")
    config = await asyncio.to_thread(load, None, {"APPLIANCE_DATA_DIR": str(nats.data_dir)})
    async with dispatcher(nats):
        waiting, open_job = await create_job(bus, SOURCE, JobOptions()), await create_job(bus, SOURCE, JobOptions())
        await bus.commit([facts.started(open_job, "download"), facts.done(open_job, "download")])
        seq = (await bus.last_facts(f"evt.*.*.{open_job}"))[-1].seq
        await projected(nats.data_dir / "appliance.db", seq)
        await asyncio.to_thread(create, config, tmp_path / "b.tar.gz")
    before = await asyncio.to_thread(rows, nats.data_dir / "appliance.db", ("jobs",))
    data = tmp_path / "restored"
    await asyncio.to_thread(restore, tmp_path / "b.tar.gz", data)
    async with nats_box(data) as new, dispatcher(new):
        fresh = await new.bus("supervisor")
        commands = [stored.command for stored in await fresh.read(0, "cmd.>")]
        assert {(command.job, command.stage) for command in commands} == {
            (waiting, "download"),
            (open_job, "transcribe"),
        }
        assert len(await fresh.read(0, "evt.>")) == len(await bus.read(0, "evt.>")) == 4
        after = await asyncio.to_thread(rows, data / "appliance.db", ("jobs",))
    assert before.count(b"'queued'") == after.count(b"'queued'") == 1


def command(box: Box, *words: str) -> list[str]:
    return [sys.executable, "-m", "appliance", "-c", str(box.config_file), *words]


def grow(box: Box, megabytes: int) -> None:
    (box.data / "output" / box.done / "clip-02.mp4").write_bytes(os.urandom(megabytes * 2**20))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_killed_backup_leaves_the_old_one_and_the_next_cleans_up(tmp_path: Path, share: float) -> None:
    box, file = Box(tmp_path / "box"), tmp_path / "to" / "b.tar.gz"
    file.parent.mkdir()
    old = create(box.config, file).manifest
    grow(box, 120)
    wanted = share * 120 * 2**20
    process = subprocess.Popen(command(box, "backup", str(file), "--clips", "--force"), stdout=subprocess.DEVNULL)
    part = file.with_name(f".{file.name}.{process.pid}.part")
    while not part.exists() or part.stat().st_size < wanted:
        assert process.poll() is None, "it was done before it could be killed"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert verify(file) == old, "the old one stands until the new one is complete"
    assert part.exists()
    (box.data / "output" / box.done / "clip-02.mp4").unlink()
    create(box.config, file, replace=True)
    assert os.listdir(file.parent) == [file.name]


def test_a_killed_restore_is_no_box_and_can_be_run_again(tmp_path: Path) -> None:
    box, file, new = Box(tmp_path / "box"), tmp_path / "b.tar.gz", tmp_path / "new"
    grow(box, 80)
    made = create(box.config, file, clips=True)
    process = subprocess.Popen(command(box, "restore", str(file), "--into", str(new)), stdout=subprocess.DEVNULL)
    clip = new / ".restoring" / "new" / "output" / box.done / "clip-02.mp4"
    while not clip.exists() or clip.stat().st_size < 20 * 2**20:
        assert process.poll() is None, "it was done before it could be killed"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert sorted(os.listdir(new)) == [".restoring", "run"]
    up = subprocess.run(
        [sys.executable, "-m", "appliance", "up"],
        env={**os.environ, "APPLIANCE_DATA_DIR": str(new)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert up.returncode == 1
    assert "was cut short: run the same `appliance restore` again" in up.stderr
    assert restore(file, new) == made.manifest
    assert rows(new / "appliance.db") == rows(box.data / "appliance.db")
    assert not (new / ".restoring").exists()


def test_the_commands_say_what_they_did(tmp_path: Path) -> None:
    box, file, new = Box(tmp_path / "box"), tmp_path / "b.tar.gz", tmp_path / "new"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(box, *words), capture_output=True, text=True, check=False, timeout=60)

    shown = run("backup", str(file))
    assert shown.returncode == 0, shown.stderr
    assert "1 unfinished jobs are in it without their videos" in shown.stdout
    assert run("backup", str(file)).returncode == 2
    shown = run("backup", str(file), "--sources", "--clips", "--force", "--json")
    told = json.loads(shown.stdout)
    assert (told["seq"], told["left_out_jobs"], told["clips"], told["sources"]) == (box.facts, 0, True, True)
    shown = run("restore", "--check", str(file))
    assert (shown.returncode, f"{file} is whole" in shown.stdout) == (0, True)
    shown = run("restore", str(file))
    assert (shown.returncode, "is not empty" in shown.stderr) == (2, True)
    shown = run("restore", str(file), "--into", str(new), "--json")
    assert json.loads(shown.stdout)["data_dir"] == str(new)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    shown = run("restore", "--check", str(file))
    assert shown.returncode == 1
    assert "Traceback" not in shown.stderr
    with pytest.raises(BackupDamaged):
        verify(file)
