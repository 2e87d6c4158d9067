"""`python -m tests.media.intake FOLDER FILE…`: the download stage on each file, in one process of its own.

Prints a JSON object a file: code and message of a refusal (or null), seconds, peak memory so far of the stage's
process and of the largest check, and the names that the job's folder holds after.
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
from stages.media.kernel import peak_rss_bytes


def main() -> None:
    for number, name in enumerate(sys.argv[2:]):
        location, root = Path(name), Path(sys.argv[1]) / str(number)
        origin = JobSource(kind="file", location=str(location), name=location.name)
        task = Task(stage="download", job="job", origin=origin)
        begin = time.monotonic()
        answer: dict[str, object] = {"file": location.name, "kind": None, "code": None, "message": None}
        try:
            run(task, JobFolder(root, root / "out"), Options(min_free_bytes=0), lambda done, note=None: None)
        except StageError as error:
            answer |= {"kind": type(error).__name__, "code": error.code, "message": str(error)}
        child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        own = peak_rss_bytes()
        answer |= {"seconds": time.monotonic() - begin, "own_bytes": own, "child_bytes": child}
        answer["left"] = sorted(p.name for p in root.iterdir())
        sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
