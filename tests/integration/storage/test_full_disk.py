"""A whole box on a small disk that is filled up: to the floor, and to the last byte."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from appliance.config import load
from appliance.control.ledger import Hold, Ledger, read_holds
from appliance.errors import IntakeClosed
from appliance.intake import cancel_job, create_job, source_of
from appliance.sqlite import sqlite3
from appliance.storage.admission import Admission
from appliance.storage.ballast import Ballast
from bus.connection import Bus, BusSettings
from bus.errors import Retryable
from bus.events import STAGES, JobOptions, JobSource, UserAction
from bus.server import credentials
from tests.faults.harness import RealBox, check_invariants, facts_of, wait_for_end
from tests.integration.storage.smalldisk import MB, Filler, small_disk
from tests.media.maker import Spec, make

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SETTINGS = """
admission: {reserve_bytes: 50000000, floor_bytes: 45000000, full_bytes: 34000000, ballast_bytes: 32000000,
            resume_margin: 1.2, max_percent: 100, check_s: 0.5}
retention: {free_bytes: 0}
hardware: {enabled: false}
cache: {url: "off"}
"""
DISK = 240 * MB
OPTIONS = JobOptions(clips=1, min_length_s=2.0, max_length_s=4.0)
REOPEN_S = 60.0
LOOKS = 4
"""What is promised: intake is open again this long after space has returned."""
JOB_S = 120.0


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBox]:
    folder = tmp_path_factory.mktemp("full")
    box = RealBox(folder, SETTINGS)
    text = box.config_path.read_text().replace("download: {", "download: {min_free_bytes: 1000000, ")
    box.config_path.write_text(text)
    box.config = load(box.config_path, {})
    with small_disk(folder / "data", DISK):
        box.start()
        yield box
        box.stop()
        assert box.leftovers() == []


@pytest.fixture(scope="module")
def source() -> JobSource:
    path, _ = make(Spec(seconds=8.0, width=320, height=180, scenes=("seated", "pair")))
    return source_of(str(path))


async def until(true: Callable[[], bool], wait_s: float = 60.0) -> None:
    async with asyncio.timeout(wait_s):
        while not await asyncio.to_thread(true):
            await asyncio.sleep(0.1)


def command(box: RealBox, *arguments: str) -> tuple[int, str]:
    line = [sys.executable, "-m", "appliance", "-c", str(box.config_path), *arguments]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def server_pid(box: RealBox) -> int | None:
    return next((process.pid for process in box.find("nats-server")), None)


def by_storage(ledger: Ledger) -> dict[str, Hold]:
    return {hold.target: hold for hold in ledger.holds() if hold.holder == "storage"}


def stored_ids(box: RealBox) -> set[str]:
    with closing(sqlite3.connect(f"file:{box.database}?mode=ro", uri=True)) as db:
        return {row[0] for row in db.execute("SELECT id FROM events")}


async def everything(bus: Bus) -> set[str]:
    """The ids of all facts in the stream."""
    ids, after = set(), 0
    while batch := await bus.read(after):
        ids |= {stored.event.id for stored in batch}
        after = batch[-1].seq
    return ids


async def nothing_is_lost(box: RealBox, bus: Bus, acknowledged: set[str]) -> None:
    in_stream = await everything(bus)
    assert acknowledged <= in_stream
    await until(lambda: in_stream <= stored_ids(box))


async def test_at_the_floor_intake_closes_what_runs_ends_and_it_opens_again(box: RealBox, source: JobSource) -> None:
    filler, admission = Filler(box.config.data_dir), Admission(box.config)
    async with box.bus() as bus, Ledger(bus) as ledger:
        old = await create_job(bus, source, OPTIONS, admission=admission)
        await wait_for_end(box, [old], JOB_S)
        async with bus.live("evt.job.downloaded.*") as feed:
            running = await create_job(bus, source, OPTIONS, admission=admission)
            assert await feed.next(JOB_S) is not None
        await asyncio.to_thread(filler.leave, 40 * MB)
        async with asyncio.timeout(30):
            await ledger.until("intake", "pause")
        (hold,) = by_storage(ledger).values()
        assert re.search(r"\d+\.\d MB are free .* less than the floor of 45\.0 MB", hold.reason)
        assert re.search(
            r"1 open jobs will still need about \d+\.\d MB; intake opens by itself at 54\.0 MB", hold.reason
        )
        with pytest.raises(IntakeClosed, match=r"less than the floor of 45\.0 MB"):
            await create_job(bus, source, OPTIONS, admission=admission)
        code, said = await asyncio.to_thread(command, box, "jobs", "add", source.location)
        assert code != 0
        assert "less than the floor of 45.0 MB" in said

        assert await wait_for_end(box, [running], JOB_S) == {running: "completed"}
        await asyncio.to_thread(check_invariants, box, [old, running])
        code, said = await asyncio.to_thread(command, box, "jobs", "delete", old)
        assert (code, said) == (0, "deleted\n")
        await until(lambda: not (box.config.data_dir / "output" / old).exists())
        with pytest.raises(TimeoutError):  # what was deleted is not enough, however often the guard looks
            async with asyncio.timeout(LOOKS * box.config.admission.check_s):
                await ledger.until_running("intake")

        await asyncio.to_thread(filler.remove)
        async with asyncio.timeout(REOPEN_S):
            await ledger.until_running("intake")
        next_job = await create_job(bus, source, OPTIONS, admission=admission)
        assert await cancel_job(bus, next_job, by="test")
        await nothing_is_lost(box, bus, {event.id for _, event in facts_of(box.database, running)})


async def test_on_a_full_disk_nothing_is_lost_deleting_works_and_everything_heals(
    box: RealBox, source: JobSource
) -> None:
    filler, ballast = Filler(box.config.data_dir), Ballast(box.config.data_dir)
    acknowledged: set[str] = set()
    impatient = await asyncio.to_thread(_impatient, box)
    async with box.bus() as bus, await Bus.connect(impatient) as doubting:
        job = await create_job(bus, source, OPTIONS, admission=Admission(box.config))
        await wait_for_end(box, [job], JOB_S)
        await until(lambda: ballast.bytes >= 32 * MB)
        async with bus.live("evt.job.downloaded.*") as feed:
            through = await create_job(bus, source, OPTIONS, admission=Admission(box.config))
            assert await feed.next(JOB_S) is not None
        server = await asyncio.to_thread(server_pid, box)
        dispatcher = box.find("appliance.dispatcher")[0]
        dispatcher.suspend()  # or it gives up the ballast before the bus has met the full disk
        await asyncio.to_thread(filler.take_all)
        with pytest.raises(Retryable):
            await publish_until_refused(doubting, acknowledged)
        dispatcher.resume()

        await until(lambda: ballast.bytes == 0)
        await until(lambda: server_pid(box) not in (None, server))
        async with asyncio.timeout(60):
            while {hold.target for hold in await read_holds(bus) if hold.holder == "storage"} != {"intake", *STAGES}:
                await asyncio.sleep(0.1)
        code, said = await asyncio.to_thread(command, box, "jobs", "delete", job)
        assert (code, said) == (0, "deleted\n"), "with the disk still full, but for the ballast"
        await until(lambda: not (box.config.data_dir / "output" / job).exists())

        await asyncio.to_thread(filler.remove)
        async with asyncio.timeout(REOPEN_S):
            while any(hold.holder == "storage" for hold in await read_holds(bus)):
                await asyncio.sleep(0.1)
        await until(lambda: ballast.bytes >= 32 * MB)
        assert await wait_for_end(box, [through], JOB_S) == {through: "completed"}, "what ran went through all this"
        await asyncio.to_thread(check_invariants, box, [through])
        await nothing_is_lost(box, bus, acknowledged)


async def publish_until_refused(bus: Bus, acknowledged: set[str]) -> None:
    for number in range(1000):
        fact = UserAction(user="test", action="x" * 1000, target=str(number))
        await bus.publish(fact)
        acknowledged.add(fact.id)


def _impatient(box: RealBox) -> BusSettings:
    plain = credentials(box.config.data_dir, "supervisor")
    fields = {name: getattr(plain, name) for name in plain.__struct_fields__}
    return BusSettings(**{**fields, "attempt_s": 1.0, "patience_s": 2.0})
