"""A job's log file, `data/jobs/<job>/job.log`: what happened to it, in order, for people."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from stages.folder import JobFolder

MAX_LOG_BYTES = 8 * 2**20
"""Past this size nothing more is added: a stage that floods its log must not fill the disk."""


def note(folder: JobFolder, text: str) -> None:
    """Append one line with the time. Lines are short, so concurrent writers do not mix them.

    A line that cannot be written, on a full disk, is lost: it is not worth the attempt that it tells of.
    """
    path = folder.root / "job.log"
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
    with suppress(OSError):
        folder.root.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
            return
        with path.open("a", encoding="utf-8") as log:
            log.write(f"{stamp} {text}\n")
