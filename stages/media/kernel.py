"""The few kernel calls that Python does not wrap. Linux only; each raises `OSError` where the kernel says no."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
_CAPABILITY_VERSION_3 = 0x20080522
# Numbers of capset differ by machine; those of Landlock and seccomp's users are in their own modules.
_CAPSET = {"x86_64": 126, "aarch64": 91, "riscv64": 91}


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument."""
    _checked(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl({option})")


def unshare(flags: int) -> None:
    """unshare(2)."""
    _checked(_libc.unshare(flags), "unshare")


def syscall(name: str, number: int, *args: object) -> int:
    """A raw system call; `args` are ctypes values, ints go as C long."""
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    return _checked(int(_libc.syscall(ctypes.c_long(number), *wide)), name)


def drop_capabilities() -> None:
    """Give up all capabilities of this thread; root keeps its files and nothing else."""
    number = _CAPSET.get(os.uname().machine)
    if number is None:
        raise OSError(f"unknown machine {os.uname().machine}")
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    syscall("capset", number, ctypes.byref(header), ctypes.byref(nothing))


def _checked(result: int, name: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def peak_rss_bytes() -> int:
    """Most memory that this process has had resident since its program started.

    Not `ru_maxrss`: that one keeps the size of the process it was forked from.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
