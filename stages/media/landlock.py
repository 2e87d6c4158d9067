"""Landlock: a process gives up the file system, except for named paths, and TCP. Needs no root.

Numbers and structs are those of `linux/landlock.h`. ABI 1 has files (kernel 5.13), 2 renames across folders, 3
truncate, 4 TCP (6.7), 5 device ioctls, 6 signals and abstract unix sockets to processes outside (6.12).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from stages.media import kernel

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1

_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_MAKE_CHAR, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 10, 1 << 11
_TRUNCATE = 1 << 14
_IOCTL_DEV = 1 << 15
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_ALL_NEWEST = (1 << 16) - 1
_NET_TCP = 0b11
_SCOPES = 0b11

READ = _READ_FILE | _READ_DIR
RUN = READ | _EXECUTE
WRITE = _ALL_NEWEST & ~(_EXECUTE | _MAKE_CHAR | _MAKE_BLOCK | _MAKE_FIFO | _MAKE_SOCK | _IOCTL_DEV)
DEVICE = _READ_FILE | _WRITE_FILE | _READ_DIR | _IOCTL_DEV


def abi() -> int:
    """The kernel's Landlock version. Raises `OSError` where it has none or it is switched off."""
    return kernel.syscall("landlock_create_ruleset", _CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)


def restrict(rules: Iterable[tuple[Path, int]], *, tcp: bool) -> int:
    """Restrict the calling thread, and all that it starts, to `rules` (path, rights); returns the ABI in force.

    Paths that do not exist are passed over. `tcp` False takes away bind and connect too, where the ABI knows them.
    Needs no-new-privs. Raises `OSError` when the kernel cannot.
    """
    version = abi()
    handled = _ALL_BY_ABI.get(version, _ALL_NEWEST)
    attributes = (ctypes.c_uint64 * 3)(handled, 0 if tcp else _NET_TCP, _SCOPES)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = kernel.syscall(
        "landlock_create_ruleset", _CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), 0
    )
    try:
        for path, rights in rules:
            _allow(ruleset, path, rights & handled)
        kernel.syscall("landlock_restrict_self", _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return version


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not path.is_dir():
            rights &= _FILE_RIGHTS
        rule = _PathBeneath(rights, fd)
        kernel.syscall("landlock_add_rule", _ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(fd)
