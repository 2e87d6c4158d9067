"""The child process: `python -m appliance.worker.child`, one stage on one task, then the end.

It reads its request, closes itself in (address space, files, network: `stages.media.sandbox`), runs the stage and
answers. A crash, an endless loop or a memory bomb here costs one attempt and nothing else.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

import msgspec

from appliance.parent import die_with_parent
from appliance.worker.protocol import Answer, Done, Failed, FailureKind, Progress, StageRequest
from stages.base import StageResult
from stages.errors import DISK_FULL, Misconfigured, Rejected, StageError, Transient
from stages.folder import JobFolder

NICE = 5
"""Pages, bus and dispatcher go first; beside what asks for a whole core, a stage still gets a quarter of it."""
_PROGRESS_EVERY_S = 0.1


def main() -> None:
    die_with_parent()
    os.nice(NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # a library that prints must not break the protocol
    request = msgspec.json.decode(sys.stdin.buffer.readline(), type=StageRequest)
    answers.write(_line(_run(request, answers.write)))


def _run(request: StageRequest, send: object) -> Answer:
    assert callable(send)
    last_sent = 0.0
    reached = 0.0

    def report(done: float, note: str | None = None) -> None:
        nonlocal last_sent, reached
        reached = max(reached, min(1.0, done))
        now = time.monotonic()
        if note is not None or now - last_sent >= _PROGRESS_EVERY_S:
            last_sent = now
            send(_line(Progress(done=round(reached, 4), note=note)))

    task = request.task
    try:
        stage = importlib.import_module(f"stages.{task.stage}")
        options = msgspec.json.decode(request.options, type=stage.Options, dec_hook=lambda kind, value: kind(value))
        folder = JobFolder(Path(request.root), Path(request.output))
        open_doors = _close_in(request, options)
        result: StageResult = stage.run(task, folder, options, report)
        result = msgspec.structs.replace(result, notes=[*result.notes, *open_doors])
        return Done(result=msgspec.Raw(msgspec.json.encode(result)))
    except Exception as error:  # noqa: BLE001 - the border of the process: everything becomes an answer
        with suppress(OSError):  # the log may lie on a full disk
            traceback.print_exc()
        return failed(error, request)


def failed(error: Exception, request: StageRequest) -> Failed:
    """What a stage's error means to the box. That the disk is full is told whatever error it came out as."""
    if _says_disk_full(error):
        return Failed(kind="transient", code=DISK_FULL, message=f"the disk is full: {error}")
    match error:
        case StageError():
            return Failed(kind=_kind(error), code=error.code, message=str(error))
        case MemoryError():
            limit = f"{request.max_memory_bytes / 2**20:.0f} MiB" if request.max_memory_bytes else "the machine's"
            message = f"{request.task.stage} needed more memory than {limit}"
            return Failed(kind="crashed", code="out-of-memory", message=message)
        case _:
            return Failed(kind="crashed", code="crashed", message=f"{type(error).__name__}: {error}")


def _says_disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def _close_in(request: StageRequest, options: object) -> list[str]:
    """Everything but download works on outside bytes with no network and nothing but its own folders to write.

    Returns what this kernel could not close, one sentence each.
    """
    from stages.media import sandbox

    if request.task.stage == "download":
        return []  # it needs the network, and has its probe done in a sandboxed process of its own
    folders = [Path(request.root), Path(request.output)]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    entered = sandbox.enter(
        sandbox.SandboxPolicy(
            read=[*folders, Path(request.models_dir), *getattr(options, "reads", [])],
            write=folders,
            max_address_space_bytes=request.max_memory_bytes or None,
            network=bool(getattr(options, "needs_network", False)),
            gpu=getattr(options, "device", "cpu") != "cpu",
        )
    )
    return entered.missing


def _kind(error: StageError) -> FailureKind:
    match error:
        case Rejected():
            return "rejected"
        case Misconfigured():
            return "misconfigured"
        case Transient():
            return "transient"
    return "crashed"


def _line(answer: Answer) -> bytes:
    return msgspec.json.encode(answer) + b"\n"


if __name__ == "__main__":
    main()
