"""Reading a settled file: its sum, and why it is not taken."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from appliance.watch.content import StillMoving, read
from appliance.watch.folder import Entry, look
from stages.download import Options
from stages.errors import Rejected

MP4 = b"\x00\x00\x00\x20ftypisom" + bytes(100)


def entry_of(path: Path) -> Entry:
    (entry,) = look(path.parent, 10).entries
    return entry


def write(folder: Path, data: bytes, name: str = "a.mp4") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_the_sum_is_that_of_all_bytes(tmp_path: Path) -> None:
    data = MP4 + os.urandom(9 * 2**20)
    path = write(tmp_path, data)
    assert read(path, entry_of(path), Options(), threading.Event()) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("data", "name", "code"),
    [
        (b"", "a.mp4", "empty"),
        (b"hello", "a.txt", "not-a-video"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a.mp4", "not-a-video"),
        (MP4, "a.mkv", "extension-mismatch"),
        (MP4 + bytes(2**20), "a.mp4", "too-large"),
    ],
)
def test_what_is_no_acceptable_video_is_refused_with_a_code(tmp_path: Path, data: bytes, name: str, code: str) -> None:
    path = write(tmp_path, data, name)
    with pytest.raises(Rejected) as refused:
        read(path, entry_of(path), Options(max_bytes=2**20), threading.Event())
    assert refused.value.code == code


def test_a_file_that_changed_since_the_look_waits(tmp_path: Path) -> None:
    path = write(tmp_path, MP4)
    entry = entry_of(path)
    path.write_bytes(MP4 + b"more")
    with pytest.raises(StillMoving, match="changed"):
        read(path, entry, Options(), threading.Event())
    path.unlink()
    with pytest.raises(StillMoving, match="cannot be opened"):
        read(path, entry, Options(), threading.Event())


def test_a_link_put_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = write(tmp_path / "in", MP4)
    entry = entry_of(path)
    path.rename(tmp_path / "elsewhere.mp4")
    path.symlink_to(tmp_path / "elsewhere.mp4")
    with pytest.raises(StillMoving):
        read(path, entry, Options(), threading.Event())


def test_a_file_that_somebody_has_open_for_writing_waits(tmp_path: Path) -> None:
    path = write(tmp_path, MP4)
    with path.open("ab"), pytest.raises(StillMoving, match="open for writing"):
        read(path, entry_of(path), Options(), threading.Event())
    with path.open("rb"):  # readers do not matter
        assert read(path, entry_of(path), Options(), threading.Event())


def test_reading_ends_when_it_is_told_to(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    path = write(tmp_path, MP4)
    with pytest.raises(InterruptedError):
        read(path, entry_of(path), Options(), stop)
