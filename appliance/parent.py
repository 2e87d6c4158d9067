"""Processes that end with their parent, and the status line they keep to it.

A supervised process writes JSON lines to the descriptor named by `APPLIANCE_STATUS_FD`: that it is ready, that it is
alive, what it works on. Its parent learns of a death by the pipe's end at the latest. Nothing else crosses the pipe.
"""

from __future__ import annotations

import ctypes
import os
import signal

import msgspec
from msgspec import Struct

from bus.events import StageName

STATUS_FD_VARIABLE = "APPLIANCE_STATUS_FD"
PARENT_PID_VARIABLE = "APPLIANCE_PARENT_PID"
RETIRE = signal.SIGUSR1
"""To a worker: finish what you have, take nothing new, and leave with status 0."""
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def set_parent_death_signal() -> None:
    """Ask the kernel to SIGKILL this process when its parent ends; survives exec, so it fits `preexec_fn`."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def die_with_parent() -> None:
    """As above, for a Python process; ends at once when the parent named in the environment is already gone."""
    set_parent_death_signal()
    expected = os.environ.get(PARENT_PID_VARIABLE)
    if expected is not None and os.getppid() != int(expected):
        os._exit(1)


class Status(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line from a supervised process. `job` is set while it holds a claim on an item."""

    ready: bool = False
    worker: str | None = None
    stage: StageName | None = None
    job: str | None = None
    clip: int | None = None


class StatusPipe:
    """The child's end. Without the environment variable (started by hand) every call does nothing."""

    def __init__(self) -> None:
        number = os.environ.pop(STATUS_FD_VARIABLE, None)
        self._fd = None if number is None else int(number)
        if self._fd is not None:
            os.set_inheritable(self._fd, False)
            os.set_blocking(self._fd, False)

    def send(self, status: Status) -> None:
        """Write one line; a full or closed pipe is ignored, the parent watches the process itself too."""
        if self._fd is None:
            return
        try:
            os.write(self._fd, msgspec.json.encode(status) + b"\n")
        except BlockingIOError:
            return
        except OSError:
            self._fd = None
