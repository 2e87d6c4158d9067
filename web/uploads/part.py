"""The file of an unfinished upload: written, hashed and brought to the disk on a thread, never on the event loop."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from stages.folder import fsync

_READ_BYTES = 4 * 1024 * 1024
SYNC_TAKES_S = 0.003
"""While bytes come the disk is synced again and again, as often as makes one sync take about this long. Whoever syncs
a small file on the same disk meanwhile waits for all that the disk was given since its last sync, also for what it
says it has: that may lie in a cache of the disk."""
LEAST_STEP_BYTES = 512 * 1024
MOST_STEP_BYTES = 8 * 1024 * 1024


class PartLost(Exception):
    """The file holds less than what was confirmed."""


class PartFile:
    """Every method blocks. One user at a time; the confirmed part never changes."""

    def __init__(self, path: Path, confirmed_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.confirmed_bytes = confirmed_bytes
        self.written_bytes = confirmed_bytes
        self._fd: int | None = None
        self._synced_bytes = confirmed_bytes
        self._step_bytes = LEAST_STEP_BYTES
        self._clock = clock
        # Without the bytes before, a sum cannot go on: then the whole file is read at the end.
        self._sum = hashlib.sha256() if confirmed_bytes == 0 else None
        self._confirmed_sum = self._sum.copy() if self._sum is not None else None

    @property
    def is_open(self) -> bool:
        return self._fd is not None

    def open(self) -> None:
        """Take up the file at its confirmed end; what lies behind it is dropped. Raises `PartLost`, OSError."""
        if self._fd is not None:
            return
        new = self.confirmed_bytes == 0 and not self.path.exists()
        if new:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            size = os.fstat(fd).st_size
            if size < self.confirmed_bytes:
                raise PartLost(f"{self.path} holds {size} bytes of {self.confirmed_bytes}")
            if size > self.confirmed_bytes:
                os.ftruncate(fd, self.confirmed_bytes)
            if new:
                fsync(self.path.parent)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        self._reset()

    def write(self, pieces: Sequence[bytes]) -> None:
        """Append. Raises OSError; then `roll_back`."""
        assert self._fd is not None
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                count = os.pwrite(self._fd, rest, self.written_bytes)
                if self._sum is not None:
                    self._sum.update(rest[:count])
                self.written_bytes += count
                rest = rest[count:]
                if self.written_bytes - self._synced_bytes >= self._step_bytes:
                    self._sync_step()

    def _sync_step(self) -> None:
        began = self._clock()
        self.sync()
        took_s = self._clock() - began
        fitting = self._step_bytes * min(2.0, max(0.5, SYNC_TAKES_S / took_s if took_s > 0 else 2.0))
        self._step_bytes = min(MOST_STEP_BYTES, max(LEAST_STEP_BYTES, round(fitting)))

    def sync(self) -> None:
        """Bring what was written to the disk for good. Raises OSError; then `roll_back`: it is never tried again."""
        assert self._fd is not None
        if self.written_bytes > self._synced_bytes:
            os.fdatasync(self._fd)
            self._synced_bytes = self.written_bytes

    def confirm(self) -> None:
        """What was synced counts from now on."""
        self.confirmed_bytes = self.written_bytes
        self._confirmed_sum = self._sum.copy() if self._sum is not None else None

    def roll_back(self) -> None:
        """Drop what was not confirmed."""
        if self._fd is not None and self.written_bytes > self.confirmed_bytes:
            os.ftruncate(self._fd, self.confirmed_bytes)
        self._reset()

    def _reset(self) -> None:
        self.written_bytes = self.confirmed_bytes
        self._synced_bytes = self.confirmed_bytes
        self._sum = self._confirmed_sum.copy() if self._confirmed_sum is not None else None

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def head(self, count: int) -> bytes:
        """The first bytes."""
        assert self._fd is not None
        return os.pread(self._fd, count, 0)

    def unconfirmed_sum(self, algorithm: str) -> bytes:
        """The checksum of what was written since the last confirmation."""
        assert self._fd is not None
        return self._hash(algorithm, self.confirmed_bytes, self.written_bytes)

    def sha256(self) -> str:
        """Of the whole file, as written. Reads it only when the process was started again on the way."""
        if self._sum is not None:
            return self._sum.hexdigest()
        assert self._fd is not None
        return self._hash("sha256", 0, self.written_bytes).hex()

    def _hash(self, algorithm: str, start: int, end: int) -> bytes:
        assert self._fd is not None
        found = hashlib.new(algorithm, usedforsecurity=False)
        at = start
        while at < end and (data := os.pread(self._fd, min(_READ_BYTES, end - at), at)):
            found.update(data)
            at += len(data)
        return found.digest()

    def store(self, content: Path) -> None:
        """Give the file its place by content, on the disk for good; there may be one already. Raises OSError."""
        content.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self.path, content)
        except FileExistsError:
            return
        fsync(content.parent)

    def remove(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)
