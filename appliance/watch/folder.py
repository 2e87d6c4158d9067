"""Looking into the watch folder: what lies there now, without opening a file.

Links are never followed: what a link inside the folder points at is either found by itself, or lies outside and is no
business of ours. Names that programs use while they write are passed over until they are renamed.
"""

from __future__ import annotations

import os
import re
import stat
from itertools import islice
from pathlib import Path
from typing import Literal

from msgspec import Struct

MAX_DEPTH = 16
MAX_PATH_BYTES = 1024
"""Of the path below the watch folder; what is longer is refused: it must fit into events, logs and archives."""

Kind = Literal["file", "folder", "link", "other"]

_TEMPORARY = re.compile(
    r"""^[.~]                                    # hidden; rsync .name.XXXXXX, Synology .~, Syncthing ~syncthing~
    | ~$                                         # editors' copies
    | \.(part|partial|crdownload|download|opdownload|tmp|temp|filepart|upload|uploading|inprogress|incomplete
        |aria2|ytdl|swp|!qb|!ut|bc!|dlpart)(\.\w+)?$   # name.mp4.part, and yt-dlp's name.temp.mp4
    | ^(thumbs\.db|desktop\.ini|icon\r)$""",
    re.IGNORECASE | re.VERBOSE,
)
_SYSTEM_FOLDERS = frozenset(
    {"@eadir", "#recycle", "#snapshot", "lost+found", "system volume information", "$recycle.bin"}
)
_BESIDE = (".part", ".crdownload", ".filepart", ".aria2")
"""Programs that reserve the final name with an empty file and write beside it (Firefox does)."""


class Entry(Struct, frozen=True, kw_only=True):
    """One thing in the folder."""

    path: str
    """Below the folder. May hold what is not UTF-8, as surrogates (`os.fsdecode`)."""
    kind: Kind
    size_bytes: int
    mtime_ns: int
    inode: int
    readable: bool = True

    @property
    def identity(self) -> tuple[int, int, int]:
        """What must stand still while a file settles."""
        return (self.size_bytes, self.mtime_ns, self.inode)


class Look(Struct, frozen=True):
    """What one look has found, the oldest first."""

    entries: list[Entry]
    complete: bool
    """False: the folder holds more than the limit."""


def is_temporary(name: str) -> bool:
    """Whether a program is still writing under this name, or it is no video of anybody's."""
    return _TEMPORARY.search(name) is not None


def look(root: Path, max_files: int) -> Look:
    """Everything below `root` that may be a video, at most `max_files` entries. Blocking.

    A folder that cannot be read is an entry of its own, not readable. Raises OSError when `root` itself cannot be read.
    """
    found: list[Entry] = []
    seen = 0
    waiting: list[tuple[str, int]] = [("", 0)]
    while waiting:
        below, depth = waiting.pop()
        try:
            with os.scandir(root / below) as listing:
                items = {item.name: item for item in islice(listing, max_files - seen)}
                complete = next(listing, None) is None
        except OSError:
            if not below:
                raise
            if (entry := _entry(root, below, readable=False)) is not None:
                found.append(entry)
            continue
        seen += len(items)
        for name, item in items.items():
            if is_temporary(name) or any(name + suffix in items for suffix in _BESIDE):
                continue
            if not complete and any(os.path.lexists(root / below / (name + suffix)) for suffix in _BESIDE):
                continue  # what is beside it is past the limit
            path = os.path.join(below, name)  # noqa: PTH118 - a name need not be text
            if item.is_dir(follow_symlinks=False) and depth < MAX_DEPTH:
                if name.lower() not in _SYSTEM_FOLDERS:
                    waiting.append((path, depth + 1))
            elif (entry := _entry(root, path)) is not None:
                found.append(entry)
        if not complete:
            return Look(_in_order(found), complete=False)
    return Look(_in_order(found), complete=True)


def _entry(root: Path, path: str, *, readable: bool = True) -> Entry | None:
    """What lies at `path` itself; None when it is gone, or a link to what is found by itself."""
    full = root / path
    try:
        status = full.lstat()
        if stat.S_ISLNK(status.st_mode) and full.resolve().is_relative_to(root) and full.exists():
            return None
    except (OSError, RuntimeError):  # gone, or a loop of links: the latter is refused as a link
        if not full.is_symlink():
            return None
    mode = status.st_mode
    kind: Kind = "other"
    if stat.S_ISLNK(mode):
        kind = "link"
    elif stat.S_ISDIR(mode):
        kind = "folder"
    elif stat.S_ISREG(mode):
        kind = "file"
        readable = readable and _may_read(full, status)
    return Entry(
        path=path,
        kind=kind,
        size_bytes=status.st_size if kind == "file" else 0,
        mtime_ns=status.st_mtime_ns,
        inode=status.st_ino,
        readable=readable,
    )


def _may_read(full: Path, status: os.stat_result) -> bool:
    """Asks the kernel only where the mode does not say it."""
    own = status.st_uid == os.geteuid() and status.st_mode & stat.S_IRUSR
    return bool(own or status.st_mode & stat.S_IROTH) or os.access(full, os.R_OK)


def _in_order(entries: list[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (entry.mtime_ns, entry.path))
