"""The dispatcher's store: what is noted goes along with a batch, and readers hold a commit up only while they read."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing
from pathlib import Path

import pytest

from appliance.errors import SourceUnavailable, StoreDamaged
from appliance.sqlite import sqlite3
from appliance.store import database
from appliance.store.database import JOURNAL_BYTES, journal_mode, open_reader, open_writer
from appliance.store.projection import Projection, StoredFact
from appliance.store.writer import Writer
from bus.events import AnyEvent, encode
from bus.ids import new_id
from bus.subjects import event_subject
from tests.unit.appliance import facts


def stored(seq: int, event: AnyEvent) -> StoredFact:
    return StoredFact(seq, event_subject(event), encode(event))


def in_database(path: Path, key: str) -> str | None:
    reader = open_reader(path)
    row = reader.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    reader.close()
    return None if row is None else str(row[0])


async def test_what_is_noted_is_kept_with_the_next_batch_or_alone(tmp_path: Path) -> None:
    path = tmp_path / "appliance.db"
    store = await Writer.open(path)
    store.note_meta("place", "1")
    assert await asyncio.to_thread(in_database, path, "place") is None
    await store.apply([stored(1, facts.created(new_id()))])
    assert await asyncio.to_thread(in_database, path, "place") == "1"
    store.note_meta("place", "2")
    await store.keep_noted()
    assert await asyncio.to_thread(in_database, path, "place") == "2"
    store.note_meta("place", "3")
    await store.close()
    assert await asyncio.to_thread(in_database, path, "place") == "3"


async def test_a_batch_that_fails_loses_nothing_that_was_noted(tmp_path: Path) -> None:
    store = await Writer.open(tmp_path / "appliance.db")
    store.note_meta("place", "1")
    with pytest.raises(AttributeError):
        await store.apply([None])  # type: ignore[list-item]
    assert await store.meta("place") is None
    store.note_meta("place", "2")
    await store.apply([])
    assert await store.meta("place") == "2"
    await store.close()


async def test_on_a_full_disk_a_call_waits_but_a_close_does_not(tmp_path: Path) -> None:
    path = tmp_path / "appliance.db"
    store = await Writer.open(path)
    await store.apply([stored(1, facts.created(new_id()))])

    def fill(db: sqlite3.Connection) -> None:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count={pages}")

    await store.call(fill)
    store.note_meta("place", "x" * 100_000)
    waiting = asyncio.create_task(store.keep_noted())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waiting, 0.2)
    store.note_meta("place", "x" * 100_000)
    await asyncio.wait_for(store.close(), 20)
    assert await asyncio.to_thread(in_database, path, "cursor") == "1"
    assert await asyncio.to_thread(in_database, path, "place") is None


async def test_what_was_noted_of_the_old_stream_is_forgotten_when_facts_get_new_numbers(tmp_path: Path) -> None:
    store = await Writer.open(tmp_path / "appliance.db")
    store.note_meta("actions_cursor", "99")
    await store.renumber_begin()
    await store.renumber_end("another epoch")
    await store.apply([])
    assert await store.meta("actions_cursor") == "0"
    await store.close()


async def test_a_summary_is_of_what_is_committed_and_does_not_wait_for_the_writing(tmp_path: Path) -> None:
    store, job = await Writer.open(tmp_path / "appliance.db"), new_id()
    assert await store.job_summary(job) is None
    await store.apply([stored(1, facts.created(job)), stored(2, facts.done(job, "moments", clips=2))])
    entered, go_on = threading.Event(), threading.Event()

    def hold(db: sqlite3.Connection) -> None:
        entered.set()
        go_on.wait(30)

    writing = asyncio.create_task(store.call(hold))
    await asyncio.to_thread(entered.wait, 30)
    summary = await store.job_summary(job)
    go_on.set()
    await writing
    assert summary is not None
    assert (summary.state, summary.clips_planned, summary.last_seq) == ("clipping", 2, 2)
    await store.close()


@pytest.fixture
def persist(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with an SQLite whose write-ahead log is not to be trusted."""
    monkeypatch.setattr(database, "journal_mode", lambda: "persist")


@pytest.mark.usefixtures("persist")
def test_a_commit_waits_for_who_reads_and_gives_up_in_time(tmp_path: Path) -> None:
    path = tmp_path / "appliance.db"
    writer = open_writer(path)
    projection = Projection(writer)
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchone()
    writer.execute("PRAGMA busy_timeout=50")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        projection.apply([stored(1, facts.created(new_id()))])
    assert not writer.in_transaction
    assert writer.execute("PRAGMA busy_timeout").fetchone() == (50,)
    writer.execute("PRAGMA busy_timeout=30000")
    threading.Timer(0.1, lambda: reader.execute("COMMIT")).start()
    assert len(projection.apply([stored(1, facts.created(new_id()))])) == 1
    assert writer.execute("PRAGMA busy_timeout").fetchone() == (30000,)
    assert reader.execute("SELECT count(*) FROM events").fetchone() == (1,)
    reader.close()
    writer.close()


@pytest.mark.skipif(journal_mode() != "wal", reason="this SQLite's write-ahead log is not to be trusted")
def test_with_a_write_ahead_log_a_commit_waits_for_no_reader(tmp_path: Path) -> None:
    path = tmp_path / "appliance.db"
    writer = open_writer(path)
    writer.execute("PRAGMA busy_timeout=0")
    reader = open_reader(path)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM events").fetchone()[0] == 0
    assert len(Projection(writer).apply([stored(1, facts.created(new_id()))])) == 1
    assert reader.execute("SELECT count(*) FROM events").fetchone()[0] == 0
    reader.execute("COMMIT")
    assert reader.execute("SELECT count(*) FROM events").fetchone()[0] == 1
    reader.close()
    writer.close()


@pytest.mark.skipif(journal_mode() != "wal", reason="this SQLite's write-ahead log is not to be trusted")
def test_a_database_moves_between_the_journals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a box gets a newer SQLite, and when its data folder goes to a machine without one."""
    path = tmp_path / "appliance.db"
    for seq, mode in enumerate(["persist", "wal", "persist"], start=1):
        monkeypatch.setattr(database, "journal_mode", lambda mode=mode: mode)
        writer = open_writer(path)
        assert writer.execute("PRAGMA journal_mode").fetchone() == (mode,)
        assert len(Projection(writer).apply([stored(seq, facts.created(new_id()))])) == 1
        with closing(open_reader(path)) as reader:
            assert reader.execute("SELECT count(*) FROM events").fetchone()[0] == seq
        writer.close()


@pytest.mark.parametrize("mode", sorted({"persist", journal_mode()}))
def test_a_journal_is_kept_but_not_at_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(database, "journal_mode", lambda: mode)
    writer = open_writer(tmp_path / "appliance.db")
    projection, seq = Projection(writer), 0
    for _ in range(6):
        batch = [stored(seq + n, facts.created(new_id())) for n in range(1, 1500)]
        projection.apply(batch)
        seq += len(batch)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE jobs SET name = name || 'x'")
    writer.execute("COMMIT")
    projection.apply([stored(seq + 1, facts.created(new_id()))])
    journal = tmp_path / ("appliance.db-wal" if mode == "wal" else "appliance.db-journal")
    assert 0 < journal.stat().st_size <= JOURNAL_BYTES
    writer.close()


def test_what_is_not_damaged_is_not_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "appliance.db"
    path.mkdir()
    with pytest.raises(SourceUnavailable, match="may write in its folder"):
        open_writer(path)
    path.rmdir()
    open_writer(path).close()
    monkeypatch.setattr(database, "WRITER_BUSY_TIMEOUT_MS", 10)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SourceUnavailable, match="another program holds it"):
            open_writer(path)
        other.execute("COMMIT")
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreDamaged, match="rebuild --from stream"):
        open_writer(path)
