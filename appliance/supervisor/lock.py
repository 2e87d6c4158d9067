"""One copy of each process: a lock file held by a descriptor that the process itself inherits.

The kernel frees the lock when the last holder of the descriptor ends, however it ends. So a new supervisor cannot start
a second copy of a process that outlived the old one; it waits until that copy is gone.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from pathlib import Path

from appliance.errors import BoxAlreadyRunning, ProcessFailed, RestoreUnfinished

_POLL_S = 0.05
RESTORING = ".restoring"
"""Folder inside a data folder whose restore has not been finished."""


def try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock, or None when somebody else does. The caller closes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


async def wait_for_lock(path: Path, timeout_s: float) -> int:
    """As `try_lock`, waiting for the holder to end. Raises `ProcessFailed` when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while (fd := await _try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise ProcessFailed(f"another process holds {path} for more than {timeout_s:.0f} s: end it first")
        await asyncio.sleep(_POLL_S)  # a lock has no event to wait for without blocking a thread
    return fd


async def _try_lock(path: Path) -> int | None:
    """`try_lock` on a thread. A lock that is got after the caller was cancelled is given back."""
    trying = asyncio.ensure_future(asyncio.to_thread(try_lock, path))
    try:
        return await asyncio.shield(trying)
    except asyncio.CancelledError:
        trying.add_done_callback(_give_back)
        raise


def _give_back(trying: asyncio.Future[int | None]) -> None:
    if not trying.cancelled() and trying.exception() is None and (fd := trying.result()) is not None:
        os.close(fd)


def lock_box(data_dir: Path) -> int:
    """The supervisor's own lock. Raises `BoxAlreadyRunning` naming the process that holds it, `RestoreUnfinished`."""
    path = data_dir / "run" / "supervisor.lock"
    fd = try_lock(path)
    if fd is None:
        raise BoxAlreadyRunning(
            f"a box runs on {data_dir} already (process {path.read_text().strip() or 'unknown'}): "
            "use `appliance status`, or `appliance down` to end it"
        )
    if (data_dir / RESTORING).exists():
        os.close(fd)
        raise RestoreUnfinished(f"a restore into {data_dir} was cut short: run the same `appliance restore` again")
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()}\n".encode())
    return fd


def box_pid(data_dir: Path) -> int | None:
    """Process id of the running box's supervisor; None when none runs."""
    path = data_dir / "run" / "supervisor.lock"
    if not path.exists():
        return None
    fd = try_lock(path)
    if fd is not None:
        os.close(fd)
        return None
    text = path.read_text().strip()
    return int(text) if text.isdigit() else None
