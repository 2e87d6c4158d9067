"""The worker's side of a running stage: start the child, follow its progress, bound it, kill it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from appliance.lifecycle import Failure
from appliance.parent import PARENT_PID_VARIABLE
from appliance.worker.protocol import MAX_LINE_BYTES, Done, Failed, Progress, StageRequest, decoder
from stages.base import RESULTS, StageResult

QUIET_LIBRARIES = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "YOLO_OFFLINE": "true",
}
"""No library of a stage reports home or fetches anything by itself."""


class StageFailed(Exception):
    """The child did not deliver; `.failure` says why in words for people."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error)
        self.failure = failure


class StageProcess:
    """One run of a stage in a process group of its own.

    `run` returns the stage's result or raises `StageFailed`; when it returns or is cancelled the whole group is dead.
    """

    def __init__(
        self,
        request: StageRequest,
        *,
        log: Path,
        timeout_s: float,
        stall_timeout_s: float,
        on_progress: Callable[[float], None],
    ) -> None:
        self._request = request
        self._log = log
        self._timeout_s = timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._on_progress = on_progress

    async def run(self) -> StageResult:
        environment = {**os.environ, **QUIET_LIBRARIES, PARENT_PID_VARIABLE: str(os.getpid())}
        log = await asyncio.to_thread(self._log.open, "ab")
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "appliance.worker.child",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
                limit=MAX_LINE_BYTES,
            )
        finally:
            log.close()
        try:
            return await self._follow(process)
        finally:
            _kill_group(process.pid)
            await process.wait()

    async def _follow(self, process: asyncio.subprocess.Process) -> StageResult:
        stage = self._request.task.stage
        assert process.stdin is not None
        assert process.stdout is not None
        started = time.monotonic()
        try:
            process.stdin.write(msgspec.json.encode(self._request) + b"\n")
            await process.stdin.drain()
            process.stdin.close()
            while True:
                left_s = self._timeout_s - (time.monotonic() - started)
                line = await asyncio.wait_for(process.stdout.readline(), max(0.0, min(self._stall_timeout_s, left_s)))
                if not line:
                    break
                match decoder.decode(line):
                    case Progress(done=done):
                        self._on_progress(done)
                    case Done(result=result):
                        return msgspec.json.decode(result, type=RESULTS[stage])
                    case Failed(kind=kind, code=code, message=message):
                        final = kind in ("rejected", "misconfigured")
                        raise StageFailed(Failure(error=message, code=code, final=final))
        except TimeoutError:
            if time.monotonic() - started >= self._timeout_s:
                text = f"{stage} took longer than {self._timeout_s:.0f} s: raise workers.{stage}.timeout_factor"
                raise StageFailed(Failure(error=text, code="timed-out")) from None
            text = f"{stage} made no progress for {self._stall_timeout_s:.0f} s and was stopped"
            raise StageFailed(Failure(error=text, code="stalled")) from None
        except (BrokenPipeError, ConnectionResetError):
            pass  # the child is dead before it read its request: its exit status says why
        except (ValueError, msgspec.DecodeError) as error:
            text = f"{stage} answered with something that is not its protocol: {error}"
            raise StageFailed(Failure(error=text, code="crashed")) from error
        raise StageFailed(describe_exit(stage, await process.wait()))


def describe_exit(stage: str, status: int) -> Failure:
    """An exit status as a failure in words. Negative: the signal that ended the process."""
    if status >= 0:
        return Failure(error=f"the {stage} process ended with status {status} and no result", code="crashed")
    name = signal.Signals(-status).name
    hint = " (often: out of memory)" if name == "SIGKILL" else ""
    return Failure(error=f"the {stage} process was killed by {name}{hint}", code=f"killed-{name.lower()}")


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
