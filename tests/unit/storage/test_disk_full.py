"""That the disk is full is told as just that, whatever error of whatever library it came out as."""

from __future__ import annotations

import errno
from pathlib import Path

import av
import msgspec
import pytest

from appliance.joblog import note
from appliance.worker.child import failed
from appliance.worker.protocol import StageRequest
from bus.events import JobOptions, JobSource
from stages.base import Task
from stages.errors import DISK_FULL, Rejected, Transient
from stages.folder import JobFolder

REQUEST = StageRequest(
    task=Task(
        stage="cut",
        job="j",
        clip=1,
        origin=JobSource(kind="file", location="/v", name="v"),
        options=JobOptions(),
    ),
    root="/r",
    output="/o",
    options=msgspec.Raw(b"{}"),
    models_dir="/m",
    max_memory_bytes=2**30,
)


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        try:
            if cause is not None:
                raise cause
        finally:
            raise error
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        av.error.OSError(errno.ENOSPC, "No space left on device"),  # as the muxer tells it
        raised(Transient("the clip cannot be written", "encode-failed"), OSError(errno.ENOSPC, "No space left")),
        raised(RuntimeError("closing failed"), OSError(errno.ENOSPC, "No space left")),
    ],
)
def test_it_is_told_and_waited_for(error: Exception) -> None:
    told = failed(error, REQUEST)
    assert (told.kind, told.code) == ("transient", DISK_FULL)
    assert told.message.startswith("the disk is full")


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (OSError(errno.EIO, "I/O error"), "crashed", "crashed"),
        (Rejected("no video", "not-a-video"), "rejected", "not-a-video"),
        (MemoryError(), "crashed", "out-of-memory"),
        (ValueError("x"), "crashed", "crashed"),
    ],
)
def test_other_errors_are_what_they_were(error: Exception, kind: str, code: str) -> None:
    told = failed(error, REQUEST)
    assert (told.kind, told.code) == (kind, code)


def test_a_log_that_cannot_be_written_costs_no_attempt(tmp_path: Path) -> None:
    folder = JobFolder.of(tmp_path, "j")
    folder.root.mkdir(parents=True)
    (folder.root / "job.log").symlink_to("/dev/full")
    note(folder, "cut clip 1: attempt 1 starts")
