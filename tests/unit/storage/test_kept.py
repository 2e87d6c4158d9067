"""The connection that stays open: it follows its file, and an error does not stay with it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from appliance.errors import ApplianceError
from appliance.sqlite import sqlite3
from appliance.store.kept import KeptReader


def write(path: Path, number: int) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE IF NOT EXISTS one (number INTEGER)")
        db.execute("INSERT INTO one VALUES (?)", (number,))


def rows(reader: KeptReader) -> list[int]:
    with reader.opened() as db:
        return [row[0] for row in db.execute("SELECT number FROM one").fetchall()]


def test_one_connection_sees_what_is_written_later(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    write(path, 1)
    reader = KeptReader(path)
    with reader.opened() as first:
        pass
    assert rows(reader) == [1]
    write(path, 2)
    assert rows(reader) == [1, 2]
    with reader.opened() as last:
        assert last is first


def test_another_file_in_its_place_is_opened(tmp_path: Path) -> None:
    path, other = tmp_path / "a.db", tmp_path / "b.db"
    write(path, 1)
    write(other, 7)
    reader = KeptReader(path)
    assert rows(reader) == [1]
    other.replace(path)
    assert rows(reader) == [7]


def test_no_file_is_said_and_a_later_one_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    reader = KeptReader(path)
    with pytest.raises((ApplianceError, sqlite3.Error)):
        rows(reader)
    write(path, 3)
    assert rows(reader) == [3]


def test_after_an_error_it_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    write(path, 1)
    reader = KeptReader(path)
    with pytest.raises(sqlite3.OperationalError), reader.opened() as before:
        before.execute("SELECT * FROM nothing")
    with reader.opened() as after:
        assert after is not before
    assert rows(reader) == [1]
