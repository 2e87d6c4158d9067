"""Dashboards of a benchmark, in a process of their own (`bench.readers`), and what they see of paced events."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct

from bus.ids import new_id

PER_S = 20.0
LATE_S = 15.0
"""Frames that have not come so long after the last publish are missing."""
SHARES = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
Publish = Callable[[str], Awaitable[str | None]]


class Dashboards:
    """`count` of them, in their own process."""

    def __init__(self, port: int, count: int, path: str, bearer: str | None) -> None:
        arguments = [str(port), str(count), path, *([bearer] if bearer else [])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.readers", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.lost = 0

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = await asyncio.to_thread(self._process.stdout.readline)
        if not line:
            raise SystemExit("the dashboards ended")
        return line

    async def ready(self) -> None:
        await self._line()

    async def arrived(self) -> dict[str, list[int]]:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        told = json.loads(await self._line())
        self.lost = told.pop("lost")
        return dict(told)

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@asynccontextmanager
async def dashboards(port: int, count: int, path: str, bearer: str | None = None) -> AsyncIterator[Dashboards]:
    found = Dashboards(port, count, path, bearer)
    try:
        await found.ready()
        yield found
    finally:
        found.end()


def spread(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {name: round(ordered[min(len(ordered) - 1, int(len(ordered) * q))] * 1e3, 3) for name, q in SHARES.items()}


class Run(Struct, frozen=True, kw_only=True):
    """What dashboards saw of a number of events, in seconds."""

    each: list[float]
    """Of every event and dashboard."""
    last: list[float]
    """Of the last dashboard of each event."""
    missing: int
    lost: int
    events: int

    def report(self) -> dict[str, Any]:
        counts = {"missing": self.missing, "lost": self.lost, "events": self.events}
        return {"all": spread(self.each), "last": spread(self.last), **counts}


def joined(runs: Sequence[Run]) -> Run:
    """Several runs as one."""
    return Run(
        each=[seconds for run in runs for seconds in run.each],
        last=[seconds for run in runs for seconds in run.last],
        missing=sum(run.missing for run in runs),
        lost=sum(run.lost for run in runs),
        events=sum(run.events for run in runs),
    )


async def watch(
    publish: Publish,
    events: int,
    kind: str,
    shown: Dashboards,
    count: int,
    during: asyncio.Future[Any] | None = None,
    begins: Callable[[], dict[str, int]] | None = None,
    per_s: float = PER_S,
) -> Run:
    """Publishes at a steady pace; of all dashboards, and of the last one of each event.

    `during`: go on until it is done instead of for `events`. `begins`: when each job's event began, in monotonic
    nanoseconds, told at the end by somebody else; otherwise it is the call of `publish`.
    """
    await shown.arrived()
    began: dict[str, int] = {}
    while not during.done() if during is not None else len(began) < events:
        due = time.monotonic() + 1 / per_s
        job = new_id()
        began_ns = time.monotonic_ns()
        told = await publish(job)
        began[f"{kind} {told or job}"] = began_ns
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    arrived: dict[str, list[int]] = {}
    deadline = time.monotonic() + LATE_S
    while True:
        for key, times in (await shown.arrived()).items():
            if key in began:
                arrived.setdefault(key, []).extend(times)
        missing = len(began) * count - sum(len(times) for times in arrived.values())
        if not missing or shown.lost or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    if begins is not None:
        began = {f"{kind} {job}": at for job, at in begins().items()}
    each = [(at - began[key]) / 1e9 for key, times in arrived.items() for at in times]
    last = [(max(times) - began[key]) / 1e9 for key, times in arrived.items()]
    return Run(each=each, last=last, missing=missing, lost=shown.lost, events=len(began))
