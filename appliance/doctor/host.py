"""The machine: interpreter, memory, disk, clock, SQLite, and what the kernel offers to confine the stages."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from appliance.config import Config
from appliance.doctor.finding import Finding, fail, ok, warn
from appliance.sqlite import sqlite3

GIB = 1024**3
DISK_FAIL_BYTES = 2 * GIB
DISK_WARN_BYTES = 20 * GIB
MEMORY_WARN_BYTES = 4 * GIB
SLOW_FSYNC_S = 0.05
"""Every event waits for one fsync, so this is felt."""

_SYS_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_CREATE_RULESET_VERSION = 1
_TIME_ERROR = 5
"""What adjtimex(2) answers while nothing keeps the clock in step."""


def python(_config: Config) -> list[Finding]:
    return [ok("python", f"{platform.python_version()} on {platform.machine()}")]


def machine(_config: Config) -> list[Finding]:
    import psutil

    total = psutil.virtual_memory().total
    cores = len(os.sched_getaffinity(0))
    found = f"{cores} core{'s' if cores > 1 else ''}, {total / GIB:.1f} GiB of memory"
    if total < MEMORY_WARN_BYTES:
        return [warn("machine", found, "long videos may fail for want of memory", "give the box 4 GiB or more")]
    return [ok("machine", found)]


def disk(config: Config) -> list[Finding]:
    """Room and speed where the data folder is, or will be."""
    folder = _existing(config.data_dir)
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.1f} GiB free for {config.data_dir}"
    room = "an hour of video takes about 3 GiB while it is worked on"
    if free < DISK_FAIL_BYTES:
        said = fail("disk", found, room, "make room, or set data_dir to a larger disk")
    elif free < DISK_WARN_BYTES:
        said = warn("disk", found, room, "make room soon, or set data_dir to a larger disk")
    else:
        said = ok("disk", found)
    return [said, _writing(folder)]


def clock(_config: Config) -> list[Finding]:
    now = datetime.now(UTC)
    found = now.isoformat(timespec="seconds")
    if now.year < 2025:
        return [fail("clock", found, "events would be stamped in the past", "set the clock, then start the box")]
    buffer = ctypes.create_string_buffer(512)  # struct timex, all zero: read only
    if ctypes.CDLL(None, use_errno=True).adjtimex(buffer) == _TIME_ERROR:
        return [
            warn(
                "clock",
                f"{found}, not kept in step by this machine",
                "times of events may drift; fine in a container whose host keeps the time",
                "run a time service, such as systemd-timesyncd or chrony",
            )
        ]
    return [ok("clock", f"{found}, kept in step")]


def sqlite(_config: Config) -> list[Finding]:
    from appliance.store.database import journal_mode

    version, mode = sqlite3.sqlite_version, journal_mode()
    if mode == "wal":
        return [ok("sqlite", f"{version}, write-ahead log")]
    return [
        ok(
            "sqlite",
            f"{version}, rollback journal: this version's write-ahead log can lose data (fixed in 3.51.3, 3.50.7 and "
            "3.44.6), so it is not used; nothing to do",
        )
    ]


def confinement(_config: Config) -> list[Finding]:
    """Whether a stage that reads a hostile video can be kept inside its job's folder."""
    version = ctypes.CDLL(None, use_errno=True).syscall(
        _SYS_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_CREATE_RULESET_VERSION
    )
    namespaces = "user namespaces " + ("on" if _user_namespaces() else "off")
    if version < 1:
        return [
            warn(
                "confinement",
                f"no Landlock in this kernel ({platform.release()}), {namespaces}",
                "a stage that a hostile video takes over could read the files of the box's user; memory and time limits"
                " hold all the same",
                "use a kernel from 5.13 on with landlock in its `lsm=` list",
            )
        ]
    return [ok("confinement", f"Landlock version {version}, {namespaces}")]


def _existing(path: Path) -> Path:
    """The folder itself or the nearest one above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _writing(folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            times = []
            for _ in range(5):
                began = time.perf_counter()
                file.write(b"\0" * 4096)
                file.flush()
                os.fsync(file.fileno())
                times.append(time.perf_counter() - began)
    except OSError as error:
        return fail(
            "disk-write",
            f"{folder}: {error.strerror}",
            "the box cannot keep anything",
            "let its user write there, or set data_dir to another folder",
        )
    middle = sorted(times)[len(times) // 2]
    found = f"{middle * 1000:.1f} ms to put 4 KiB safely on the disk of {folder}"
    if middle > SLOW_FSYNC_S:
        return warn("disk-write", found, "each event waits that long", "use a disk with a faster write cache")
    return ok("disk-write", found)


def _user_namespaces() -> bool:
    def value(path: str, otherwise: int) -> int:
        try:
            return int(Path(path).read_text())
        except (OSError, ValueError):
            return otherwise

    return (
        value("/proc/sys/user/max_user_namespaces", 0) > 0
        and value("/proc/sys/kernel/unprivileged_userns_clone", 1) == 1
        and value("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", 0) == 0
    )
