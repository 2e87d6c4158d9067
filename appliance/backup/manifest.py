"""What a backup holds: the manifest, and the paths that may stand in one.

A path in a backup is the file's path below the data folder. `restored/` holds what is for people to read after a
restore: the configuration file of the old box, its settings in effect, the list of its models, the manifest.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Struct, field

from appliance.errors import BackupDamaged

VERSION = 1
MANIFEST = "manifest.json"
"""Name of the last file in the archive."""
DATABASE = "appliance.db"
WEB_DATABASE = "web.db"
NOTES = "restored"
"""Folder of what is for people."""
TOP = frozenset({DATABASE, WEB_DATABASE, NOTES, "run", "jobs", "output", "input", "uploads"})
MAX_PATH_BYTES = 2048
MAX_MANIFEST_BYTES = 256 * 2**20

Kind = Literal["database", "config", "state", "artifact", "source", "clip"]


class Item(Struct, frozen=True, kw_only=True):
    """One file of the backup."""

    path: str
    kind: Kind
    size_bytes: int
    mtime_ns: int
    sha256: str


class Manifest(Struct, frozen=True, kw_only=True):
    """`manifest.json`: what the backup holds, and as of when."""

    version: int = VERSION
    program: str
    """Version of the program that wrote it."""
    schema: int
    """Version of the tables in `appliance.db`."""
    created_at: datetime
    epoch: str | None
    """Creation of the stream that `seq` is a position of; None before the box has seen one."""
    seq: int
    """The last fact that `appliance.db` includes."""
    facts: int
    jobs: dict[str, int]
    """Number of jobs by state."""
    clips: bool
    """Whether the finished clips are in it."""
    sources: bool
    """Whether the videos of unfinished jobs are in it."""
    models: list[str]
    """Models that the box had: they are not in it."""
    items: list[Item]
    skipped: list[str] = field(default_factory=list)
    """Paths that were gone or changing when their turn came."""

    @property
    def bytes(self) -> int:
        """Of all files, once restored."""
        return sum(item.size_bytes for item in self.items)


def check_path(path: str) -> str:
    """`path`, when a backup may hold it. Raises `BackupDamaged` for one that could lead out of the data folder."""
    parts = path.split("/")
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        length = MAX_PATH_BYTES + 1
    bad = (
        parts[0] not in TOP
        or any(part in ("", ".", "..") for part in parts)
        or any(character < " " or character in "\\\x7f" for character in path)
        or length > MAX_PATH_BYTES
    )
    if bad:
        raise BackupDamaged(f"the file {path[:200]!r} in it has no place in a data folder: this is no backup of ours")
    return path


def decode(data: bytes) -> Manifest:
    """The manifest in `data`. Raises `BackupDamaged`, and says when a newer program wrote it."""
    try:
        version = msgspec.json.decode(data, type=_Version).version
        if version > VERSION:
            raise BackupDamaged(f"a newer program wrote this backup (format {version}): restore it with that one")
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise BackupDamaged(f"its manifest cannot be read ({error}): this is no backup of ours") from error


class _Version(Struct):
    version: int = 0
