"""The file of an unfinished upload: what is told to the disk while bytes come."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from web.uploads import write_out
from web.uploads.part import PartFile
from web.uploads.write_out import STEP_BYTES, WriteOut

WRITE, AND_WAIT = 2, 1 | 2 | 4


def test_a_step_is_handed_to_the_disk_when_it_is_written_and_the_one_before_it_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = PartFile(tmp_path / "a.part", 0)
    part.open()
    told: list[tuple[int, int, int]] = []
    real = write_out._sync_file_range

    def sync_file_range(fd: int, offset: int, count: int, flags: int) -> None:
        assert os.fstat(fd).st_size >= offset + count, "it is in the file"
        told.append((offset, count, flags))
        real(fd, offset, count, flags)

    monkeypatch.setattr(write_out, "_sync_file_range", sync_file_range)
    half = STEP_BYTES // 2
    part.write([b"a" * 24])
    part.write([b"b" * half] * 5)
    first, second = (0, STEP_BYTES + 24), (STEP_BYTES + 24, STEP_BYTES)
    assert told == [(*first, WRITE), (*second, WRITE), (*first, AND_WAIT)]
    assert part.path.read_bytes() == b"a" * 24 + b"b" * half * 5
    told.clear()
    part.roll_back()
    part.write([b"c" * STEP_BYTES])
    assert told == [(0, STEP_BYTES, WRITE)], "what was dropped is not waited for"
    part.close()


def test_what_the_disk_refuses_is_an_error_here(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        steps = WriteOut(file.fileno(), 0)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        steps.reached(STEP_BYTES)


def test_a_file_that_cannot_be_told_is_left_to_the_sync() -> None:
    reading, writing = os.pipe()
    WriteOut(writing, 0).reached(STEP_BYTES)
    os.close(reading)
    os.close(writing)
