"""Many files as one ZIP, written while it is sent: stored, not deflated, since clips do not shrink. Nothing is kept."""

from __future__ import annotations

import io
import os
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from web.media import CHUNK_BYTES, open_below


class Member(NamedTuple):
    """A file of the archive: its name there, and where it lies below the data folder."""

    name: str
    parts: tuple[str, ...]


class _Sink(io.RawIOBase):
    """What the archive writes, until it is taken. It cannot seek, so sizes follow each member."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        chunk = bytes(data)  # type: ignore[call-overload]
        self._chunks.append(chunk)
        return len(chunk)

    def take(self) -> bytes:
        taken = b"".join(self._chunks)
        self._chunks.clear()
        return taken


def archive(root: Path, members: Sequence[Member]) -> Iterator[bytes]:
    """The archive's bytes in chunks of about CHUNK_BYTES. Blocking. Files that are not there are left out."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, allowZip64=True) as out:
        for member in members:
            file = open_below(root, member.parts)
            if file is None:
                continue
            try:
                moment = time.gmtime(max(file.mtime_ns // 1_000_000_000, 315_532_800))  # ZIP begins in 1980
                entry = zipfile.ZipInfo(member.name, date_time=moment[:6])
                entry.external_attr = 0o644 << 16
                entry.file_size = file.size
                with out.open(entry, "w", force_zip64=file.size > 2**31 - 2**20) as written:
                    while chunk := os.read(file.fd, CHUNK_BYTES):
                        written.write(chunk)
                        yield sink.take()
            finally:
                os.close(file.fd)
    yield sink.take()
