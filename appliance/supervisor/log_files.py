"""The processes' log files, kept to a size.

A process writes through a descriptor it was given at its start (its own lines, and whatever a library or a crash
prints), so its file is not renamed but copied to `<name>.log.1` and cut to nothing. The descriptors append, so the next
line is the first of the file again. What is written in the instant between copy and cut is lost.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)
LOOK_S = 30.0
PIECE_BYTES = 1 << 20


class LogFiles:
    """At most `1 + keep` files a process of little more than `max_bytes` each: what is written between two looks."""

    def __init__(self, folder: Path, *, max_bytes: int, keep: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._keep = keep

    async def serve(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Turn over each file that has grown too large. Blocking."""
        for path in sorted(self._folder.glob("*.log")):
            try:
                if path.stat().st_size > self._max_bytes:
                    self._turn(path)
            except OSError as error:
                log.warning("a log file cannot be turned over", extra={"path": str(path), "error": str(error)})

    def _turn(self, path: Path) -> None:
        aged = [path.with_name(f"{path.name}.{age}") for age in range(1, self._keep + 1)]
        for older, newer in zip(reversed(aged[1:]), reversed(aged[:-1]), strict=True):
            if newer.exists():
                newer.replace(older)
        with path.open("r+b") as file:
            if aged:
                _copy(file.fileno(), aged[0])
            file.truncate(0)


def _copy(source: int, target: Path) -> None:
    """On a full disk the copy ends where the room does: the file is cut all the same, or it would fill the rest."""
    try:
        with target.open("wb", buffering=0) as copy:
            at = 0
            while piece := os.pread(source, PIECE_BYTES, at):  # to its end of now: it is written to meanwhile
                at += copy.write(piece)
    except OSError as error:
        log.warning("an old log could not be kept whole", extra={"path": str(target), "error": str(error)})
