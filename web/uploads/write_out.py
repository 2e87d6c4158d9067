"""Bringing a growing file to the disk a little at a time, so that the disk always has time for others.

What is written lies in memory until a sync sends it all at once, and whoever syncs a small file on the same disk
meanwhile waits for that. Here the disk is handed `STEP_BYTES` at a time, and has two of these at most. It replaces no
sync: neither the file's length nor the disk's own cache is seen to.
"""

from __future__ import annotations

import ctypes
import errno
import os

STEP_BYTES = 256 * 1024
_WAIT_BEFORE, _WRITE, _WAIT_AFTER = 1, 2, 4
"""Of sync_file_range(2), which only Linux has."""
_libc = ctypes.CDLL(None, use_errno=True)
_NOT_HERE = (errno.ENOSYS, errno.ESPIPE)


class WriteOut:
    """Of what is appended to the open file `fd` from `start` on."""

    def __init__(self, fd: int, start: int) -> None:
        self._fd = fd
        self._before = self._begun = start

    def reached(self, end: int) -> None:
        """The file is written up to `end`. Blocks until of what was handed over only the last step is on its way.

        Raises OSError when the disk refused something: the kernel tells it once, so the next sync would not.
        """
        if end - self._begun < STEP_BYTES:
            return
        _sync_file_range(self._fd, self._begun, end - self._begun, _WRITE)
        if self._begun > self._before:
            _sync_file_range(self._fd, self._before, self._begun - self._before, _WAIT_BEFORE | _WRITE | _WAIT_AFTER)
        self._before, self._begun = self._begun, end


def _sync_file_range(fd: int, offset: int, count: int, flags: int) -> None:
    try:
        call = _libc.sync_file_range
    except AttributeError:
        return
    if call(fd, ctypes.c_int64(offset), ctypes.c_int64(count), flags) == 0:
        return
    code = ctypes.get_errno()
    if code not in _NOT_HERE:
        raise OSError(code, os.strerror(code))
