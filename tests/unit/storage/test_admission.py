"""Who is let in: the disk of this machine, a real database, sources that are larger than any disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.config import Config
from appliance.errors import IntakeRefused, NoRoom, SourceUnavailable
from appliance.storage.admission import RATIOS_S, Admission, Seen, size_of
from appliance.storage.forecast import CLIP_BYTES_PER_S, URL_BYTES
from appliance.storage.settings import Admission as Settings
from appliance.storage.volume import Volume, measure
from appliance.store.database import open_writer
from appliance.store.projection import Projection, StoredFact
from appliance.uploads import content_path, upload_source
from bus.events import Event, JobOptions, JobSource, encode
from bus.ids import new_id
from bus.subjects import event_subject
from tests.unit.appliance import facts

HUGE = 10**13
"""Ten terabytes, as a hole: more than the disk of any machine that tests this."""
OPEN = Settings(reserve_bytes=0, floor_bytes=0, full_bytes=0)


def config(data_dir: Path, admission: Settings = OPEN) -> Config:
    return Config(data_dir=data_dir, admission=admission)


def hole(path: Path, size: int) -> JobSource:
    with path.open("wb") as file:
        file.truncate(size)
    return JobSource(kind="file", location=str(path), name=path.name)


def stored(data_dir: Path, *events: Event) -> None:
    db = open_writer(data_dir / "appliance.db")
    projection = Projection(db)
    numbered = enumerate(events, projection.cursor + 1)
    projection.apply([StoredFact(n, event_subject(event), encode(event)) for n, event in numbered])
    db.close()


async def test_what_fits_is_admitted_and_says_what_it_needs(tmp_path: Path) -> None:
    source = hole(tmp_path / "talk.mp4", 1000)
    room = await Admission(config(tmp_path)).admit(source, JobOptions(clips=1, max_length_s=10.0))
    assert room.fits
    assert (room.forecast.source_bytes, room.promised_bytes, room.reserve_bytes) == (1000, 0, 0)
    assert room.reason.startswith("needs about 22.0 MB (source 1.0 kB")


async def test_what_does_not_fit_is_refused_with_the_bytes(tmp_path: Path) -> None:
    source = hole(tmp_path / "talk.mp4", HUGE)
    with pytest.raises(
        NoRoom, match=r"needs about 10\.\d TB \(source 10\.0 TB.*are free, and 0 B stay in reserve"
    ) as refused:
        await Admission(config(tmp_path)).admit(source, JobOptions())
    assert isinstance(refused.value, IntakeRefused)


def test_the_reserve_is_not_for_jobs(tmp_path: Path) -> None:
    total = measure(tmp_path).total_bytes
    kept = Settings(reserve_bytes=total, floor_bytes=0, full_bytes=0, max_percent=100.0)
    room = Admission(config(tmp_path, kept)).look(1, JobOptions())
    assert not room.fits
    assert room.reserve_bytes == total


def test_a_url_of_unknown_size_counts_as_the_median_of_those_that_were_fetched(tmp_path: Path) -> None:
    url = JobSource(kind="url", location="https://a.example/v", name="v")
    assert size_of(url, tmp_path) is None
    admission = Admission(config(tmp_path))
    assert admission.look(size_of(url, tmp_path), JobOptions()).forecast.source_bytes == URL_BYTES
    job = new_id()
    done = facts.resized(facts.done(job, "download"), 77)
    stored(tmp_path, facts.created_from_url(job), facts.started(job, "download"), done)
    assert admission.look(size_of(url, tmp_path), JobOptions()).forecast.source_bytes == 77


def test_open_jobs_are_promised_what_they_do_not_have_yet(tmp_path: Path) -> None:
    waiting = hole(tmp_path / "waiting.mp4", HUGE)
    job, ended = new_id(), new_id()
    created = msgspec.structs.replace(facts.created(job), origin=waiting)
    stored(tmp_path, created, msgspec.structs.replace(facts.created(ended), origin=waiting), facts.job_failed(ended))
    admission = Admission(config(tmp_path))
    room = admission.look(10, JobOptions())
    assert not room.fits
    assert "1 open jobs will need about 10." in room.reason
    (tmp_path / "jobs" / job).mkdir(parents=True)
    before = admission.known()[1]
    (tmp_path / "jobs" / job / ".source.download").write_bytes(b"x" * 1_000_000)
    after = admission.known()[1]
    assert after.jobs == before.jobs == 1
    assert before.bytes - 1_010_000 < after.bytes <= before.bytes - 1_000_000, "what is there needs no room"


def test_a_source_that_has_left_counts_as_unknown(tmp_path: Path) -> None:
    gone: Any = JobSource(kind="file", location=str(tmp_path / "gone.mp4"), name="gone")
    stored(tmp_path, msgspec.structs.replace(facts.created(new_id()), origin=gone))
    ratios, promised = Admission(config(tmp_path)).known()
    assert promised.bytes > ratios.url_bytes


def test_a_stored_upload_needs_no_room_for_its_source(tmp_path: Path) -> None:
    content = content_path(tmp_path, "ab" * 32)
    content.parent.mkdir(parents=True)
    hole(content, HUGE)
    upload = upload_source("u1", "talk.mp4", "ab" * 32)
    admission, job = Admission(config(tmp_path)), new_id()
    assert size_of(upload, tmp_path) == HUGE
    room = admission.look(HUGE, JobOptions(), stored=True)
    assert room.forecast.source_bytes == 0
    assert room.forecast.scratch_bytes == HUGE // 100
    stored(tmp_path, msgspec.structs.replace(facts.created(job), origin=upload))
    waiting = admission.known()[1].bytes
    assert waiting == room.forecast.total_bytes
    (tmp_path / "jobs" / job).mkdir(parents=True)
    (tmp_path / "jobs" / job / "source.mp4").hardlink_to(content)
    linked = admission.known()[1].bytes
    assert waiting - 20_000 < linked <= waiting, "the link is no news"
    (tmp_path / "jobs" / job / "transcript.json").write_bytes(b"x" * 1_000_000)
    assert admission.known()[1].bytes <= linked - 1_000_000


async def test_what_was_just_let_in_counts_before_the_database_knows_it(tmp_path: Path) -> None:
    source = hole(tmp_path / "talk.mp4", 1000)
    await asyncio.to_thread(stored, tmp_path, facts.created(new_id()))
    admission = Admission(config(tmp_path))
    before = (await asyncio.to_thread(admission.known))[1]
    job = new_id()
    async with admission.claimed(job, source, JobOptions(clips=1, max_length_s=10.0)) as room:
        pass
    during = (await asyncio.to_thread(admission.known))[1]
    assert (during.jobs, during.bytes) == (before.jobs + 1, before.bytes + room.forecast.total_bytes)
    with pytest.raises(RuntimeError):
        async with admission.claimed(new_id(), source, JobOptions()):
            raise RuntimeError("it could not be stored")
    assert (await asyncio.to_thread(admission.known))[1] == during, "what was not stored needs nothing"
    await asyncio.to_thread(stored, tmp_path, msgspec.structs.replace(facts.created(job), origin=source))
    assert (await asyncio.to_thread(admission.known))[1].jobs == during.jobs, "it is counted once"


async def test_who_has_arrived_is_not_asked_for_again(tmp_path: Path) -> None:
    source = hole(tmp_path / "talk.mp4", 1000)
    first, second = new_id(), new_id()
    await asyncio.to_thread(stored, tmp_path, facts.created(new_id()))
    admission = Admission(config(tmp_path))
    async with admission.claimed(first, source, JobOptions()):
        pass
    await asyncio.to_thread(stored, tmp_path, msgspec.structs.replace(facts.created(first), origin=source))
    async with admission.claimed(second, source, JobOptions()):
        pass
    assert admission._young.keys() == {second}
    assert (await asyncio.to_thread(admission.known))[1].jobs == 3


def test_what_completed_jobs_teach_is_read_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    job = new_id()
    stored(tmp_path, facts.created_from_url(job), facts.started(job, "download"))
    admission = Admission(config(tmp_path))
    assert admission.known()[0].url_bytes == URL_BYTES
    stored(tmp_path, facts.resized(facts.done(job, "download"), 77))
    clock[0] += RATIOS_S
    assert admission.known()[0].url_bytes == URL_BYTES
    clock[0] += 1
    assert admission.known()[0].url_bytes == 77


class Watched(Admission):
    """Counts its looks at the box."""

    looks = 0

    def _look(self) -> Seen:
        self.looks += 1
        return super()._look()


URL = JobSource(kind="url", location="https://a.example/v", name="v")
FREE_BYTES = 10**12


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume with a terabyte free."""
    volume = Volume(total_bytes=2 * FREE_BYTES, free_bytes=FREE_BYTES)
    monkeypatch.setattr("appliance.storage.admission.measure", lambda path: volume)


@asynccontextmanager
async def looked_at(admission: Watched) -> AsyncIterator[None]:
    """`keep_looking` has looked once, and would again after ten seconds."""
    looking = asyncio.create_task(admission.keep_looking())
    while admission._seen is None:
        await asyncio.sleep(0.001)
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


@pytest.mark.usefixtures("roomy")
async def test_where_plenty_is_free_nobody_waits_for_a_look(tmp_path: Path) -> None:
    await asyncio.to_thread(stored, tmp_path, facts.created(new_id()))
    admission = Watched(config(tmp_path))
    async with looked_at(admission):
        first, second = new_id(), new_id()
        async with admission.claimed(first, URL, JobOptions()) as before:
            pass
        async with admission.claimed(second, URL, JobOptions()) as after:
            pass
        assert admission.looks == 1
        assert after.promised_bytes == before.promised_bytes + before.forecast.total_bytes, "the first one counts"
        assert after.forecast == before.forecast
        await asyncio.to_thread(stored, tmp_path, facts.created_from_url(first))
        told = await asyncio.to_thread(admission.look, None, JobOptions())
        assert told.promised_bytes == after.promised_bytes + after.forecast.total_bytes, (
            "each of the two is counted once"
        )
        assert (await admission.admit(URL, JobOptions())).promised_bytes == told.promised_bytes


@pytest.mark.usefixtures("roomy")
async def test_what_fits_only_just_what_has_a_size_and_what_was_seen_long_ago_need_a_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(stored, tmp_path, facts.created(new_id()))
    admission = Watched(config(tmp_path))
    async with looked_at(admission):
        await admission.admit(hole(tmp_path / "talk.mp4", 1000), JobOptions())
        assert admission.looks == 2
        most_s = FREE_BYTES * 0.6 / CLIP_BYTES_PER_S
        clips = JobOptions(clips=1, max_length_s=most_s)
        assert (await admission.admit(URL, clips)).fits
        assert admission.looks == 3, "more than half of what is free"
        with pytest.raises(NoRoom, match="are free, of which 1 open jobs will need"):
            await admission.admit(URL, JobOptions(clips=2, max_length_s=most_s))
        assert admission.looks == 4
        await admission.admit(URL, JobOptions())
        assert admission.looks == 4
        monkeypatch.setattr("appliance.storage.admission.SEEN_S", 0.0)
        await admission.admit(URL, JobOptions())
        assert admission.looks == 5


async def test_looking_goes_on_when_the_database_did_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.storage.admission.LOOK_EVERY_S", 0.01)
    refused = asyncio.Event()

    class Refusing(Watched):
        def _look(self) -> Seen:
            if self.looks < 2:
                self.looks += 1
                loop.call_soon_threadsafe(refused.set)
                raise SourceUnavailable("not now")
            return super()._look()

    loop = asyncio.get_running_loop()
    async with looked_at(Refusing(config(tmp_path))):
        assert refused.is_set()
