"""The readers: bounded in time, freed when nobody waits, and well again after an error."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from appliance.errors import SourceUnavailable
from appliance.services.readers import Position, Readers
from appliance.sqlite import sqlite3
from appliance.store import database
from appliance.store.database import open_writer
from appliance.store.projection import Projection

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


def make_store(path: Path, cursor: int = 7) -> None:
    connection = open_writer(path)
    projection = Projection(connection)
    projection.set_meta("epoch", "e")
    projection.set_meta("cursor", str(cursor))
    connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make_store(tmp_path / "appliance.db")
    return tmp_path / "appliance.db"


async def test_the_position_is_that_of_the_rows(path: Path) -> None:
    async with Readers(path) as readers:
        assert await readers.position() == Position("e", 7)


async def test_a_query_past_its_time_is_stopped_and_its_thread_free_again(path: Path) -> None:
    stopped = threading.Event()

    def query(db: sqlite3.Connection) -> None:
        try:
            db.execute(ENDLESS).fetchone()
        finally:
            stopped.set()

    async with Readers(path, timeout_s=30, connections=1) as readers:
        with pytest.raises(SourceUnavailable, match=r"within 0\.1 s"):
            await readers.run(query, timeout_s=0.1)
        assert await asyncio.to_thread(stopped.wait, 20), "else it would run for ever"
        assert await readers.position() == Position("e", 7)


async def test_a_query_whose_caller_is_gone_is_stopped(path: Path) -> None:
    running, ended = threading.Event(), threading.Event()

    def query(db: sqlite3.Connection) -> None:
        running.set()
        try:
            db.execute(ENDLESS).fetchone()
        finally:
            ended.set()

    async with Readers(path, timeout_s=30, connections=1) as readers:
        task = asyncio.create_task(readers.run(query))
        assert await asyncio.to_thread(running.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(ended.wait, 5)
        assert await readers.position() == Position("e", 7)


async def test_a_locked_database_is_unavailable_and_then_well(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "journal_mode", lambda: "persist")  # a write-ahead log would lock nobody out
    writer = await asyncio.to_thread(open_writer, path)
    async with Readers(path, timeout_s=0.1) as readers:
        await readers.position()
        await asyncio.to_thread(writer.execute, "BEGIN EXCLUSIVE")
        with pytest.raises(SourceUnavailable):
            await readers.position()
        await asyncio.to_thread(writer.execute, "ROLLBACK")
        assert await readers.position() == Position("e", 7)
    await asyncio.to_thread(writer.close)


async def test_readers_write_nothing_and_make_no_file(path: Path, tmp_path: Path) -> None:
    async with Readers(path) as readers:
        with pytest.raises(SourceUnavailable, match="readonly"):
            await readers.run(lambda db: db.execute("DELETE FROM meta"))
    async with Readers(tmp_path / "none.db") as readers:
        with pytest.raises(SourceUnavailable, match="cannot be read"):
            await readers.position()
    assert not (tmp_path / "none.db").exists()


async def test_a_database_made_anew_is_found_after_the_first_error(path: Path) -> None:
    async with Readers(path, connections=1) as readers:
        await readers.position()
        with pytest.raises(SourceUnavailable, match="no such table"):
            await readers.run(lambda db: db.execute("SELECT * FROM nowhere"))
        path.unlink()
        await asyncio.to_thread(make_store, path, 99)
        assert await readers.position() == Position("e", 99)
