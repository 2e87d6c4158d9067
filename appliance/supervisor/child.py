"""One supervised process: started under its lock, watched, restarted with growing delay, ended in two steps."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from appliance.errors import ProcessFailed
from appliance.parent import PARENT_PID_VARIABLE, RETIRE, STATUS_FD_VARIABLE, Status, set_parent_death_signal
from appliance.supervisor.lock import wait_for_lock

log = logging.getLogger(__name__)
HEALTHY_AFTER_S = 60.0
"""A process that lived this long starts again without delay growth."""
LAST_WORDS_S = 1.0
LEFT = ("left", f"killed by {RETIRE.name}")
"""How a retired process ends well; the signal itself ends one that was not yet ready to hear it."""
MAX_STATUS_LINE_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Restart:
    """Waiting before a restart: `delay_s` doubled after each quick death, at most `delay_max_s`, plus up to 25 %."""

    delay_s: float
    delay_max_s: float

    def wait_s(self, deaths: int) -> float:
        """Seconds before start number `deaths` + 1; the very first restart comes at once."""
        if deaths <= 1:
            return 0.0
        delay = min(self.delay_max_s, self.delay_s * float(2 ** min(deaths - 2, 30)))
        return delay * random.uniform(1.0, 1.25)  # noqa: S311 - jitter, not a secret


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """What to run and how to tell that it is well."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    reports: bool = True
    """Whether it keeps a status pipe (our own processes do); others are ready when `ready` returns."""
    ready: Callable[[], Awaitable[None]] | None = None
    start_timeout_s: float = 30.0
    prepare_s: float = 0.0
    """How long its start may take when that is more, as long as it lives: one that ends meanwhile is not waited for."""
    frozen_after_s: float | None = None
    """Killed when its status pipe is silent for so long."""
    stop_signal: signal.Signals = signal.SIGTERM
    needed: bool = True
    """Whether the box may not start without it."""


@dataclass(frozen=True, kw_only=True)
class Death:
    """How a process ended that should not have."""

    name: str
    reason: str
    status: Status
    """The last thing it said it worked on."""
    restarts: int


class Child:
    """Keeps one process alive between `start` and `stop`.

    `on_ready` and `on_death` are called in order, each awaited before the next step.
    """

    def __init__(
        self,
        spec: ChildSpec,
        *,
        run_dir: Path,
        log_dir: Path,
        restart: Restart,
        on_ready: Callable[[str, int], Awaitable[None]],
        on_death: Callable[[Death], Awaitable[None]],
    ) -> None:
        self.spec = spec
        self.pid: int | None = None
        self.restarts = 0
        self.status = Status()
        self._run_dir = run_dir
        self._log_dir = log_dir
        self._restart = restart
        self._on_ready = on_ready
        self._on_death = on_death
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._retiring = asyncio.Event()
        self._heard_at = time.monotonic()
        self._killed_because: str | None = None
        self._last_reason = ""
        self._task: asyncio.Task[None] | None = None
        self._is_ready = asyncio.Event()

    async def start(self) -> None:
        """Start and wait until it is ready the first time. Raises `ProcessFailed` when it is not in time.

        In time is within `start_timeout_s`, and within `prepare_s` as long as it does not end.
        One that was retired before is not started.
        """
        if self._retiring.is_set():
            return
        self._task = asyncio.create_task(self._keep_alive(), name=f"supervise {self.spec.name}")
        ready = asyncio.create_task(self._is_ready.wait())
        waited_s, ended = 0.0, False
        while not (ready.done() or self._task.done() or ended) and waited_s < max(
            self.spec.start_timeout_s, self.spec.prepare_s
        ):
            lives = self.restarts
            await asyncio.wait(
                [ready, self._task], timeout=self.spec.start_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            waited_s, ended = waited_s + self.spec.start_timeout_s, self.restarts > lives
        ready.cancel()
        if self._task.done():
            await self._task
        if not self._is_ready.is_set() and not self._retiring.is_set():
            why = f"it {self._last_reason}, " if self._last_reason else ""
            raise ProcessFailed(
                f"{self.spec.name} was not ready after {waited_s:.0f} s: {why}"
                f"read {self._log_dir / (self.spec.name + '.log')}"
            )

    async def stop(self, grace_s: float) -> None:
        """Ask it to end; kill it after `grace_s` seconds."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(self.spec.stop_signal)
            try:
                await asyncio.wait_for(process.wait(), grace_s)
            except TimeoutError:
                self.kill()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if process is not None and process.returncode is None:
            await process.wait()

    def retire(self) -> None:
        """Ask it to finish what it has and leave; it is not started again. `gone` waits for that."""
        self._retiring.set()
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(RETIRE)

    async def gone(self) -> None:
        """Waits until a retired process has left and will not come back."""
        if self._task is not None:
            await asyncio.wait([self._task])

    @property
    def silent_s(self) -> float:
        """Seconds since it gave a sign of life."""
        return time.monotonic() - self._heard_at

    def kill(self, reason: str | None = None) -> None:
        """End it now, with all it started. `reason`: why, in place of the signal."""
        self._killed_because = reason
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _keep_alive(self) -> None:
        deaths = 0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._restart.wait_s(deaths)):
                    await self._retiring.wait()
            if self._retiring.is_set():
                return
            started = time.monotonic()
            try:
                reason = await self._run_once()
            except (ProcessFailed, OSError) as error:  # an earlier copy holds the lock, a full disk: that may pass
                reason = str(error)
            self._last_reason = reason
            if self._stopping or (self._retiring.is_set() and reason in LEFT):
                return
            deaths = 1 if time.monotonic() - started > HEALTHY_AFTER_S else deaths + 1
            self.restarts += 1
            log.warning("%s ended: %s", self.spec.name, reason, extra={"action": "service_down"})
            await self._on_death(Death(name=self.spec.name, reason=reason, status=self.status, restarts=self.restarts))

    async def _run_once(self) -> str:
        """One life of the process; returns why it ended."""
        spec = self.spec
        self.status, self._killed_because = Status(), None
        lock = await wait_for_lock(self._run_dir / f"{spec.name}.lock", spec.start_timeout_s)
        # A pair of sockets, not a pipe: of a pipe's file uvloop closes the descriptor twice, and the second time it
        # may be another thread's.
        try:
            ours, its = socket.socketpair()
        except OSError:
            os.close(lock)
            raise
        environment = {**os.environ, **spec.env, PARENT_PID_VARIABLE: str(os.getpid())}
        inherited = [lock]
        if spec.reports:
            inherited.append(its.fileno())
            environment[STATUS_FD_VARIABLE] = str(its.fileno())
        try:
            with await asyncio.to_thread((self._log_dir / f"{spec.name}.log").open, "ab") as output:
                process = await asyncio.create_subprocess_exec(
                    *spec.argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    pass_fds=inherited,
                    start_new_session=True,
                    preexec_fn=set_parent_death_signal,
                )
        except OSError as error:
            ours.close()
            return f"cannot be started: {error}"
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(lock)
            its.close()
        self._process, self.pid = process, process.pid
        self._heard_at = time.monotonic()
        if self._retiring.is_set():  # asked while it was being started
            self.retire()
        watching = asyncio.create_task(self._watch(ours, process))
        try:
            status = await process.wait()
        finally:
            self.pid = None
            # What it said last is still in the pipe: it tells which item it held.
            await asyncio.wait([watching], timeout=LAST_WORDS_S)
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            self.kill_group(process.pid)
        return self._end_reason(status)

    @staticmethod
    def kill_group(pid: int) -> None:
        """Whatever the process left behind in its group goes with it."""
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    def _end_reason(self, status: int) -> str:
        if status == 0 and self._retiring.is_set():
            return LEFT[0]
        if status < 0:
            return self._killed_because or f"killed by {signal.Signals(-status).name}"
        return f"ended with status {status}, see {self._log_dir / (self.spec.name + '.log')}"

    async def _watch(self, ours: socket.socket, process: asyncio.subprocess.Process) -> None:
        ours.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=MAX_STATUS_LINE_BYTES)
        try:
            if not self.spec.reports:
                await self._await_ready(process)
                return
            while True:
                try:
                    line = await asyncio.wait_for(reader.readline(), self.spec.frozen_after_s)
                except TimeoutError:
                    log.warning("%s gave no sign of life for %s s: killed", self.spec.name, self.spec.frozen_after_s)
                    self.kill()
                    return
                if not line:
                    return
                await self._heard(msgspec.json.decode(line, type=Status), process.pid)
        finally:
            writer.close()

    async def _heard(self, status: Status, pid: int) -> None:
        self.status = status
        self._heard_at = time.monotonic()
        if status.ready:
            self._is_ready.set()
            await self._on_ready(self.spec.name, pid)

    async def _await_ready(self, process: asyncio.subprocess.Process) -> None:
        try:
            if self.spec.ready is not None:
                await asyncio.wait_for(self.spec.ready(), self.spec.start_timeout_s)
        except Exception as error:  # noqa: BLE001 - any failure of the probe means: not ready, start again
            log.warning("%s is not ready: %s", self.spec.name, error)
            self.kill()
            return
        self._is_ready.set()
        await self._on_ready(self.spec.name, process.pid)
