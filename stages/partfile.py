"""The file that a download grows in, the note beside it, and the disk under it."""

from __future__ import annotations

import os
from pathlib import Path

from stages.errors import Transient


def note_path(part: Path) -> Path:
    """Where the part's note lies: `<part>.json`."""
    return part.with_name(f"{part.name}.json")


def discard(part: Path) -> None:
    """Remove a part file and its note."""
    part.unlink(missing_ok=True)
    note_path(part).unlink(missing_ok=True)


def need_room(part: Path, size_bytes: int, min_free_bytes: int) -> None:
    """Raise `Transient` (`disk-full`) unless the disk keeps `min_free_bytes` after `size_bytes` more."""
    found = os.statvfs(part.parent)
    free = found.f_bavail * found.f_frsize
    if free - size_bytes < min_free_bytes:
        raise Transient(
            f"the disk has {free / 1e9:.1f} GB free; {max(0, size_bytes) / 1e9:.1f} GB are needed and "
            f"{min_free_bytes / 1e9:.1f} GB stay in reserve",
            "disk-full",
        )
