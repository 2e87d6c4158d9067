"""What a backup holds, that it is private and whole or not there, and where it may not go."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from pathlib import Path

import pytest

from appliance.accounts.database import open_accounts
from appliance.backup import create as creating
from appliance.backup.create import create
from appliance.backup.restore import restore, verify
from appliance.errors import BackupError, BackupRefused, StoreDamaged
from appliance.sqlite import sqlite3
from appliance.store.database import open_writer
from appliance.store.projection import Projection
from appliance.store.queries import dump
from appliance.store.schema import PROJECTED
from appliance.supervisor.lock import lock_box
from appliance.uploads import content_path
from bus.events import FileUploaded
from tests.unit.backup.box import Box, stored

ALWAYS = {
    "appliance.db",
    "run/alert-orders.json",
    "restored/settings.json",
    "restored/models.json",
    "restored/appliance.yaml",
}


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path / "box")


def tables(path: Path) -> bytes:
    connection = sqlite3.connect(path)
    try:
        return dump(connection, (*PROJECTED, "events", "meta"))
    finally:
        connection.close()


def held(file: Path) -> set[str]:
    return {item.path for item in verify(file).items}


def test_it_holds_what_is_asked_for_and_nothing_else(box: Box, tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    artifacts = {f"jobs/{box.open}/transcript.json", f"jobs/{box.open}/clips/1/faces.json"}
    made = create(box.config, file, config_file=box.config_file)
    assert held(file) == ALWAYS | artifacts
    assert (made.left_out_jobs, made.left_out_bytes) == (1, len(box.files[f"jobs/{box.open}/source.mp4"]))
    assert (made.manifest.seq, made.manifest.facts) == (box.facts, box.facts)
    assert made.manifest.jobs == {"deleted": 1, "failed": 1, "running": 1}
    sources = {f"jobs/{box.open}/source.mp4"}
    made = create(box.config, file, config_file=box.config_file, sources=True, replace=True)
    assert held(file) == ALWAYS | artifacts | sources
    assert made.left_out_jobs == 0
    create(box.config, file, config_file=box.config_file, sources=True, clips=True, replace=True)
    clips = {f"output/{box.done}/clip-01.mp4", f"output/{box.done}/clip-01.srt"}
    assert held(file) == ALWAYS | artifacts | sources | clips


def test_a_file_of_the_folder_that_a_waiting_job_will_be_made_from_is_a_source(box: Box, tmp_path: Path) -> None:
    (box.data / "input").mkdir()
    path = box.data / "input" / ("ein Vortrag – äöü " + "x" * 150 + ".mp4")
    path.write_bytes(b"video")
    connection = sqlite3.connect(box.data / "appliance.db")
    connection.execute("UPDATE jobs SET location = ? WHERE job = ?", (str(path), box.open))
    connection.commit()
    connection.close()
    (box.data / "jobs" / box.open / "source.mp4").unlink()
    create(box.config, tmp_path / "b.tar.gz", sources=True)
    restore(tmp_path / "b.tar.gz", tmp_path / "new")
    assert (tmp_path / "new" / "input" / path.name).read_bytes() == b"video"


def test_it_is_private_whole_and_readable_by_any_tar(box: Box, tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    create(box.config, file, clips=True, config_file=box.config_file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["b.tar.gz", "box"]
    listed = subprocess.run(["tar", "tzf", file], capture_output=True, text=True, check=True).stdout.split()
    assert set(listed) == held(file) | {"manifest.json"}
    assert listed[-1] == "manifest.json"


def test_a_restored_box_has_the_same_rows_and_files(box: Box, tmp_path: Path) -> None:
    file, new = tmp_path / "b.tar.gz", tmp_path / "new" / "data"
    create(box.config, file, clips=True, sources=True, config_file=box.config_file)
    manifest = restore(file, new)
    assert tables(new / "appliance.db") == tables(box.data / "appliance.db")
    for item in manifest.items:
        if item.path in box.files:
            assert (new / item.path).read_bytes() == box.files[item.path]
            assert (new / item.path).stat().st_mtime_ns == (box.data / item.path).stat().st_mtime_ns
    assert stat.S_IMODE((new / "appliance.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((new / f"output/{box.done}/clip-01.mp4").stat().st_mode) == 0o644
    assert "secret" in (new / "restored" / "appliance.yaml").read_text()
    assert not (new / ".restoring").exists()
    os.close(lock_box(new))


def test_web_users_come_along(box: Box, tmp_path: Path) -> None:
    connection = sqlite3.connect(box.data / "web.db")
    connection.executescript("CREATE TABLE users (name); INSERT INTO users VALUES ('anna');")
    connection.close()
    create(box.config, tmp_path / "b.tar.gz")
    restore(tmp_path / "b.tar.gz", tmp_path / "new")
    connection = sqlite3.connect(tmp_path / "new" / "web.db")
    assert connection.execute("SELECT name FROM users").fetchall() == [("anna",)]
    connection.close()


def test_uploads_between_the_two_databases_are_told_again(box: Box, tmp_path: Path) -> None:
    """One that the box has heard of, one that it has not although web says so, one that web has yet to tell."""
    accounts = open_accounts(box.data / "web.db")
    known, said, waiting, unfinished = "known", "said", "waiting", "unfinished"
    for ident, state, told in (
        (known, "complete", 1),
        (said, "complete", 1),
        (waiting, "complete", 0),
        (unfinished, "receiving", 0),
    ):
        sha256 = None if state == "receiving" else hashlib.sha256(ident.encode()).hexdigest()
        accounts.execute(
            "INSERT INTO uploads (id, owner, name, size_bytes, offset_bytes, state, wanted, sha256, created_at,"
            " touched_at, told) VALUES (?, 'anna', 'a.mp4', 5, 5, ?, '{}', ?, 0, 0, ?)",
            (ident, state, sha256, told),
        )
        if sha256 is not None:
            content = content_path(box.data, sha256)
            content.parent.mkdir(parents=True, exist_ok=True)
            content.write_bytes(ident.encode())
    accounts.execute("INSERT INTO users VALUES ('anna', 'x', 'admin', 0, 0, 0)")
    accounts.execute("INSERT INTO sessions VALUES ('s', 'anna', 0, 0, 'r', 'a')")
    accounts.close()
    heard = FileUploaded(file=known, path="x", name="a.mp4", size_bytes=5, sha256="0" * 64, via="upload")
    connection = open_writer(box.data / "appliance.db")
    Projection(connection).apply(stored([heard], box.facts))
    connection.close()
    create(box.config, tmp_path / "b.tar.gz", sources=True)
    restore(tmp_path / "b.tar.gz", tmp_path / "new")
    connection = sqlite3.connect(tmp_path / "new" / "web.db")
    rows = connection.execute("SELECT id, told FROM uploads ORDER BY id").fetchall()
    assert rows == [(known, 1), (said, 0), (waiting, 0)]
    assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (0,)
    assert connection.execute("SELECT user FROM users").fetchall() == [("anna",)]
    connection.close()
    contents = {path.read_text() for path in (tmp_path / "new" / "uploads" / "content").iterdir()}
    assert contents == {said, waiting}


def test_where_a_backup_may_not_go(box: Box, tmp_path: Path) -> None:
    with pytest.raises(BackupRefused, match="lies in the data folder"):
        create(box.config, box.data / "b.tar.gz")
    (tmp_path / "link").symlink_to(box.data / "output")
    with pytest.raises(BackupRefused, match="lies in the data folder"):
        create(box.config, tmp_path / "link" / "b.tar.gz")
    with pytest.raises(BackupRefused, match="is no folder"):
        create(box.config, tmp_path / "none" / "b.tar.gz")
    (tmp_path / "b.tar.gz").write_bytes(b"mine")
    with pytest.raises(BackupRefused, match="--force"):
        create(box.config, tmp_path / "b.tar.gz")
    assert (tmp_path / "b.tar.gz").read_bytes() == b"mine"
    (box.data / "appliance.db").unlink()
    with pytest.raises(BackupRefused, match="no box has run"):
        create(box.config, tmp_path / "c.tar.gz")


def test_without_room_it_says_how_much_is_needed(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creating, "SPARE_BYTES", 10**18)
    with pytest.raises(BackupRefused, match=r"GB free; the backup may take .* GB"):
        create(box.config, tmp_path / "b.tar.gz")
    assert os.listdir(tmp_path) == ["box"]


def test_a_damaged_database_is_not_backed_up(box: Box, tmp_path: Path) -> None:
    path = box.data / "appliance.db"
    data = bytearray(path.read_bytes())
    for page in range(3, len(data) // 4096):  # the pages behind the schema's
        data[page * 4096 : page * 4096 + 64] = os.urandom(64)
    path.write_bytes(data)
    with pytest.raises((StoreDamaged, BackupError)):
        create(box.config, tmp_path / "b.tar.gz")
    assert os.listdir(tmp_path) == ["box"]


def test_what_dead_backups_left_is_removed(box: Box, tmp_path: Path) -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    dead = [tmp_path / f".b.tar.gz{what}.{child.pid}.part" for what in ("", ".db")]
    living = tmp_path / f".b.tar.gz.{os.getppid()}.part"
    other = tmp_path / f".other.tar.gz.{child.pid}.part"
    for path in (*dead, living, other):
        path.touch()
    create(box.config, tmp_path / "b.tar.gz")
    assert [path.exists() for path in (*dead, living, other)] == [False, False, True, True]
