"""A seccomp filter that leaves a process no way to make a socket: what Landlock does not cover (UDP, raw, unix).

A classic BPF program (`linux/filter.h`, `linux/seccomp.h`) over the number of the system call.
"""

from __future__ import annotations

import ctypes
import errno
import os

from stages.media import kernel

_SET_MODE_FILTER = 1
_FLAG_TSYNC = 1
"""All threads of the process, not only the calling one."""
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_KILL_PROCESS = 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCH_AT = 0, 4

# machine: (audit architecture, seccomp, {call: number})
_MACHINES: dict[str, tuple[int, int, dict[str, int]]] = {
    "x86_64": (
        0xC000003E,
        317,
        {"socket": 41, "io_uring_setup": 425, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311},
    ),
    "aarch64": (
        0xC00000B7,
        277,
        {"socket": 198, "io_uring_setup": 425, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271},
    ),
}
_X32 = 0x40000000


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction)))


def refuse(calls: dict[str, int]) -> None:
    """Make each named call fail with the given errno, in all threads, for good.

    Needs no-new-privs. Calls made through another architecture's table (32-bit, x32), which would go round the
    filter, kill the process. Raises `OSError` where the kernel or the machine is not supported.
    """
    machine = os.uname().machine
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"no filter is written for {machine}")
    audit, number, numbers = _MACHINES[machine]
    code = [(_LOAD, 0, 0, _ARCH_AT), (_EQUAL, 1, 0, audit), (_RETURN, 0, 0, _KILL_PROCESS), (_LOAD, 0, 0, _NUMBER_AT)]
    if machine == "x86_64":
        code += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL_PROCESS)]
    for name, answer in calls.items():
        code += [(_EQUAL, 0, 1, numbers[name]), (_RETURN, 0, 0, _ERRNO | answer)]
    code.append((_RETURN, 0, 0, _ALLOW))
    instructions = (_Instruction * len(code))(*(_Instruction(*line) for line in code))
    program = _Program(len(code), instructions)
    kernel.syscall("seccomp", number, _SET_MODE_FILTER, _FLAG_TSYNC, ctypes.byref(program))
