"""The file of an unfinished upload: what is told to the disk while bytes come."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from web.uploads.part import PartFile


def test_the_write_out_of_each_piece_starts_when_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = PartFile(tmp_path / "a.part", 0)
    part.open()
    begun: list[tuple[int, int, int]] = []
    real = os.posix_fadvise

    def advise(fd: int, offset: int, count: int, advice: int) -> None:
        assert os.fstat(fd).st_size == offset + count, "it is in the file, and nothing lies behind it"
        begun.append((offset, count, advice))
        real(fd, offset, count, advice)

    monkeypatch.setattr("web.uploads.part.os.posix_fadvise", advise)
    part.write([b"a" * 5000, b"b" * 70_000])
    part.write([b"c" * 10])
    assert begun == [(0, 75_000, os.POSIX_FADV_DONTNEED), (75_000, 10, os.POSIX_FADV_DONTNEED)]
    assert part.path.read_bytes() == b"a" * 5000 + b"b" * 70_000 + b"c" * 10
    part.close()
