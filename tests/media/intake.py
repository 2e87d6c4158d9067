"""`python -m tests.media.intake FILE FOLDER [NAME]`: the download stage on one file in a process of its own.

Prints one JSON object: code and message of a refusal (or null), seconds, and peak memory of the stage and its child.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from bus.events import JobSource
from stages.base import Task
from stages.download import Options, run
from stages.errors import StageError
from stages.folder import JobFolder


def main() -> None:
    location, folder = Path(sys.argv[1]), Path(sys.argv[2])
    name = sys.argv[3] if len(sys.argv) > 3 else location.name
    task = Task(stage="download", job="job", origin=JobSource(kind="upload", location=str(location), name=name))
    begin = time.monotonic()
    answer: dict[str, object] = {"kind": None, "code": None, "message": None}
    try:
        run(task, JobFolder(folder, folder / "out"), Options(min_free_bytes=0), lambda done, note=None: None)
    except StageError as error:
        answer = {"kind": type(error).__name__, "code": error.code, "message": str(error)}
    own, child = (resource.getrusage(w).ru_maxrss * 1024 for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = time.monotonic() - begin
    sys.stdout.write(json.dumps({**answer, "seconds": seconds, "own_bytes": own, "child_bytes": child}) + "\n")


if __name__ == "__main__":
    main()
