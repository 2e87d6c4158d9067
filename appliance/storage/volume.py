"""The data volume: what is free, what the box keeps free of it, and what files take. Blocking; call it in a thread."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from msgspec import Struct

from appliance.storage.settings import Admission, Retention

BLOCK_BYTES = 512
"""The unit of `st_blocks` (POSIX `stat`)."""


class Volume(Struct, frozen=True):
    """A volume at one moment."""

    total_bytes: int
    free_bytes: int
    """What this user may still write."""


class Marks(Struct, frozen=True):
    """The settings of `admission` and `retention.free_bytes`, for one volume."""

    reserve_bytes: int
    floor_bytes: int
    resume_bytes: int
    full_bytes: int
    ballast_bytes: int
    target_bytes: int
    """What retention tries to keep free beyond what open jobs will still need."""


def measure(path: Path) -> Volume:
    """The volume that `path`, or the nearest folder above it that exists, lies on. Raises OSError."""
    while True:
        try:
            found = os.statvfs(path)
        except FileNotFoundError:
            if path.parent == path:
                raise
            path = path.parent
            continue
        return Volume(total_bytes=found.f_blocks * found.f_frsize, free_bytes=found.f_bavail * found.f_frsize)


def marks(admission: Admission, retention: Retention, total_bytes: int) -> Marks:
    """The settings on a volume of this size: where the reserve would be more than `max_percent` all shrink alike."""
    most = total_bytes * admission.max_percent / 100
    share = min(1.0, most / admission.reserve_bytes) if admission.reserve_bytes else 1.0
    floor, reserve = int(admission.floor_bytes * share), int(admission.reserve_bytes * share)
    return Marks(
        reserve_bytes=reserve,
        floor_bytes=floor,
        resume_bytes=int(floor * admission.resume_margin),
        full_bytes=int(admission.full_bytes * share),
        ballast_bytes=int(admission.ballast_bytes * share),
        target_bytes=max(reserve, int(retention.free_bytes * share)),
    )


def taken(path: Path, *, shared: bool = True) -> int:
    """Bytes on disk of a file, or of everything below a folder; 0 for what is not there. Links are not followed.

    `shared` False: files that have other names elsewhere are not counted.
    """
    try:
        found = path.lstat()
    except OSError:
        return 0
    is_folder = stat.S_ISDIR(found.st_mode)
    size = 0 if found.st_nlink > 1 and not shared and not is_folder else found.st_blocks * BLOCK_BYTES
    if is_folder:
        try:
            with os.scandir(path) as entries:
                size += sum(taken(Path(entry.path), shared=shared) for entry in entries)
        except OSError:
            return size
    return size


def size_text(count: float) -> str:
    """Bytes for people, in powers of 1000: `1.5 GB`."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB" if abs(value) < 1000 else f"{value / 1000:.1f} TB"
