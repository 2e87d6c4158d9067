"""Reading a settled file once: is anybody still writing it, is it a video, and what is its sha256."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import signal
import stat
import threading
from pathlib import Path

from appliance.watch.folder import Entry
from stages.download import Options, check_content
from stages.errors import Rejected
from stages.media.sniff import HEAD_BYTES

_CHUNK_BYTES = 4 * 2**20


class StillMoving(Exception):
    """The file is not what it was when it was looked at, or somebody writes it: look again later."""


def read(path: Path, entry: Entry, options: Options, stop: threading.Event) -> str:
    """The sha256 of the file at `path`, which must be as `entry` says before and after. Blocking, in chunks.

    Raises `Rejected` for what can be told to be no acceptable video by its size and first bytes, `StillMoving`, and
    `InterruptedError` soon after `stop` is set.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise Rejected("the appliance's user may not read it: give it read permission", "file-denied") from error
    except OSError as error:
        raise StillMoving(f"{entry.path} cannot be opened: {error.strerror}") from error
    with os.fdopen(fd, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise StillMoving(f"{entry.path} is no file any more")
        _must_be(entry, fd)
        if is_being_written(fd):
            raise StillMoving(f"{entry.path} is open for writing")
        if entry.size_bytes == 0:
            raise Rejected("the file is empty (0 bytes): copy it again", "empty")
        if entry.size_bytes > options.max_bytes:
            limit = f"{options.max_bytes / 1e9:.1f} GB (stages.download.max_bytes)"
            raise Rejected(f"the file has {entry.size_bytes / 1e9:.1f} GB; the limit is {limit}", "too-large")
        try:
            check_content(os.pread(fd, HEAD_BYTES, 0), entry.path)
            digest = hashlib.sha256()
            buffer = memoryview(bytearray(_CHUNK_BYTES))
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
                if stop.is_set():
                    raise InterruptedError
        except InterruptedError:
            raise
        except OSError as error:
            raise StillMoving(f"{entry.path} cannot be read: {error.strerror}") from error
        _must_be(entry, fd)
    return digest.hexdigest()


def is_being_written(fd: int) -> bool:
    """Whether a process of this machine has the file of `fd` (read-only) open for writing.

    Asks for a read lease (fcntl(2), F_SETLEASE), which the kernel grants only on a file that nobody writes, and gives
    it back at once. False where leases cannot be had: network file systems, files of another user.
    """
    try:
        # Whoever opens it for writing in between has us signalled: not by SIGIO, which would end the process.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _must_be(entry: Entry, fd: int) -> None:
    status = os.fstat(fd)
    if (status.st_size, status.st_mtime_ns, status.st_ino) != entry.identity:
        raise StillMoving(f"{entry.path} has changed since it was looked at")
