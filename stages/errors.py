"""Why a stage did not finish. Whether to try again is decided by class.

StageError
├── Rejected       the input is not acceptable (hostile, broken, not a video, nothing to clip): never retried
├── Misconfigured  a setting, model or device that was asked for is not there: never retried, an operator must act
└── Transient      a network, disk or resource trouble that may pass: retried with backoff

Anything else that escapes a stage (a bug, a crash of its process) counts as one failed attempt and is retried.
"""

from __future__ import annotations

DISK_FULL = "disk-full"
"""The code of whatever fails for want of space: no fault of the video or the stage, and it passes."""
SOURCE_MISSING = "source-missing"
"""The code of a stage that finds no video: a retry has to begin with the download."""


class StageError(Exception):
    """Root. The message is for people: what happened and what to do. `code` is stable and greppable."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Rejected(StageError):
    """The input itself is the problem."""


class Misconfigured(StageError):
    """The box cannot do what its configuration asks."""


class Transient(StageError):
    """Trying again later may help."""
