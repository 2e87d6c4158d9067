"""Log files are kept to a size while who writes them goes on through the descriptor it has."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.supervisor.log_files import LogFiles


def wait_until(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


def test_a_large_file_becomes_the_first_of_the_older_ones(tmp_path: Path) -> None:
    files, path = LogFiles(tmp_path, max_bytes=1000, keep=2), tmp_path / "web.log"
    for turn in "abcd":
        path.write_bytes(turn.encode() * 1001)
        files.look()
        assert path.read_bytes() == b""
    assert sorted(found.name for found in tmp_path.iterdir()) == ["web.log", "web.log.1", "web.log.2"]
    assert (tmp_path / "web.log.1").read_bytes() == b"d" * 1001
    assert (tmp_path / "web.log.2").read_bytes() == b"c" * 1001


def test_what_is_small_or_no_log_stays(tmp_path: Path) -> None:
    (tmp_path / "web.log").write_bytes(b"x" * 1000)
    (tmp_path / "notes.txt").write_bytes(b"x" * 5000)
    LogFiles(tmp_path, max_bytes=1000, keep=2).look()
    assert {found.name: found.stat().st_size for found in tmp_path.iterdir()} == {"web.log": 1000, "notes.txt": 5000}


def test_none_is_kept_when_none_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "web.log").write_bytes(b"x" * 1001)
    LogFiles(tmp_path, max_bytes=1000, keep=0).look()
    assert {found.name: found.stat().st_size for found in tmp_path.iterdir()} == {"web.log": 0}


def test_a_process_goes_on_at_the_beginning_of_its_file(tmp_path: Path) -> None:
    path, program = tmp_path / "worker.log", "import sys\nfor line in sys.stdin: print(line, end='', flush=True)\n"
    with path.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=output, stderr=output, text=True
        )
    assert process.stdin is not None
    process.stdin.write("before\n" * 20)
    process.stdin.flush()
    assert wait_until(lambda: path.stat().st_size == 140)
    LogFiles(tmp_path, max_bytes=100, keep=1).look()
    process.stdin.write("after\n")
    process.stdin.close()
    assert process.wait(30) == 0
    assert path.read_bytes() == b"after\n"
    assert (tmp_path / "worker.log.1").read_bytes() == b"before\n" * 20


def test_a_full_disk_keeps_no_file_from_being_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "web.log"
    path.write_bytes(b"x" * 1001)
    (tmp_path / "web.log.1").mkdir()  # stands for what cannot be written
    with caplog.at_level(logging.WARNING):
        LogFiles(tmp_path, max_bytes=1000, keep=1).look()
    assert path.stat().st_size == 0
    assert "could not be kept whole" in caplog.text
