"""A file that is there to be given up: on a full disk its bytes let the bus and the database write again.

What stops writing first on a full disk is what is needed to empty it: a deletion is a fact on the bus and a row in the
database. The file's blocks are allocated (`posix_fallocate`), not written. On file systems that compress or copy on
write it may hold less than it says.
"""

from __future__ import annotations

import os
from pathlib import Path

from appliance.storage.volume import taken


class Ballast:
    """The file `run/ballast`. Everything blocks."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "run" / "ballast"

    @property
    def bytes(self) -> int:
        """What it holds now."""
        return taken(self.path)

    def take(self, size_bytes: int) -> bool:
        """Make it hold so much; False when there is no room, and then it holds nothing."""
        if size_bytes == 0:
            self.drop()
            return True
        if self.bytes >= size_bytes:
            return True
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, size_bytes)
            finally:
                os.close(fd)
        except OSError:
            self.drop()
            return False
        return True

    def drop(self) -> int:
        """Give it up; how many bytes that freed."""
        held = self.bytes
        self.path.unlink(missing_ok=True)
        return held
