"""The file of an unfinished upload: what is brought to the disk while bytes come."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from web.uploads.part import LEAST_STEP_BYTES, MOST_STEP_BYTES, SYNC_TAKES_S, PartFile


class Disk:
    """Every sync takes `takes_s`; notes the sizes of the file at which it was synced."""

    def __init__(self) -> None:
        self.takes_s = SYNC_TAKES_S
        self.now = 0.0
        self.synced: list[int] = []

    def clock(self) -> float:
        return self.now

    def fdatasync(self, fd: int) -> None:
        self.synced.append(os.fstat(fd).st_size)
        self.now += self.takes_s


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    found = Disk()
    monkeypatch.setattr(os, "fdatasync", found.fdatasync)
    return found


@pytest.fixture
def part(tmp_path: Path, disk: Disk) -> Iterator[PartFile]:
    found = PartFile(tmp_path / "a.part", 0, clock=disk.clock)
    found.open()
    yield found
    found.close()


def test_while_bytes_come_the_disk_is_synced_step_by_step(part: PartFile, disk: Disk) -> None:
    half = LEAST_STEP_BYTES // 2
    part.write([b"a" * 24])
    part.write([b"b" * half] * 5)
    steps = [LEAST_STEP_BYTES + 24, 2 * LEAST_STEP_BYTES + 24]
    assert disk.synced == steps
    part.sync()
    assert disk.synced == [*steps, 5 * half + 24], "and what is left when it counts"
    part.sync()
    assert len(disk.synced) == 3, "there is nothing new"
    part.confirm()
    assert part.path.read_bytes() == b"a" * 24 + b"b" * half * 5


def test_a_step_is_as_large_as_the_disk_takes_in_its_time(part: PartFile, disk: Disk) -> None:
    piece = b"a" * (LEAST_STEP_BYTES // 4)
    disk.takes_s = SYNC_TAKES_S / 10
    part.write([piece] * 4 * 64)
    steps = [after - before for before, after in pairwise([0, *disk.synced])]
    assert steps[:5] == [LEAST_STEP_BYTES * 2**n for n in range(5)], "at most doubled each time"
    assert max(steps) == MOST_STEP_BYTES
    disk.takes_s, count = SYNC_TAKES_S * 1.25, len(disk.synced)
    part.write([piece] * 4 * 64)
    steps = [after - before for before, after in pairwise(disk.synced[count:])]
    assert 0.75 * MOST_STEP_BYTES < steps[0] < MOST_STEP_BYTES
    assert steps == sorted(steps, reverse=True)
    disk.takes_s = 1.0
    part.write([piece] * 4 * 64)
    count = len(disk.synced)
    part.write([piece] * 4 * 4)
    steps = [after - before for before, after in pairwise(disk.synced[count:])]
    assert steps == [LEAST_STEP_BYTES] * len(steps)
    assert len(steps) >= 3


def test_what_was_dropped_is_no_step(part: PartFile, disk: Disk) -> None:
    part.write([b"a" * LEAST_STEP_BYTES * 2])
    part.roll_back()
    part.write([b"c" * (LEAST_STEP_BYTES - 1)])
    assert disk.synced == [LEAST_STEP_BYTES * 2]
    part.write([b"c"])
    assert disk.synced == [LEAST_STEP_BYTES * 2, LEAST_STEP_BYTES]


def test_what_the_disk_refuses_is_an_error_of_the_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = PartFile(tmp_path / "a.part", 0)
    part.open()

    def refused(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", refused)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        part.write([b"a" * LEAST_STEP_BYTES])
    part.roll_back()
    assert (part.written_bytes, part.path.stat().st_size) == (0, 0)
    part.close()
