"""Who is working: one key a worker in the `workers` bucket, renewed by heartbeats and dropped by the server when not.

The bucket is read as snapshots. The library's watcher is an ordered consumer (trap 1), and what it reports after an
expiry disagrees with what `get` finds (trap 9); here a key with a marker on it is an absent worker, and expiry needs
no marker at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Struct

from bus.connection import Bus
from bus.errors import BusUnavailable
from bus.events import StageName
from bus.streams import DEFAULTS, WORKERS_PREFIX, WORKERS_STREAM, Limits
from bus.subjects import token
from bus.wire import Reply, decode_ack

_OPERATION = "KV-Operation"
_MARKER = "Nats-Marker-Reason"


class WorkerState(Struct, frozen=True, kw_only=True):
    """What a worker says about itself with each heartbeat."""

    worker: str
    stage: StageName
    pid: int
    host: str
    started_at: datetime
    job: str | None = None
    clip: int | None = None
    progress: float | None = None
    """Finished share of the work in hand, 0 to 1."""
    progress_at: datetime | None = None
    """When `progress` last changed: a worker that heartbeats but stands still is stuck."""
    rss_bytes: int = 0
    """Memory of the worker and of the stage that it runs."""
    gpu_memory_bytes: int | None = None
    """Memory that they hold on NVIDIA cards; None without a driver."""
    version: str = ""


class WorkerChange(Struct, frozen=True):
    """A worker came, or went (`removed` by itself, `expired` without a word). `state` is the last one known."""

    kind: Literal["online", "removed", "expired"]
    state: WorkerState


class Registry:
    """The worker registry over one bus connection."""

    def __init__(self, bus: Bus, limits: Limits = DEFAULTS) -> None:
        self._bus = bus
        self._ttl_s = limits.worker_ttl_s

    async def put(self, state: WorkerState) -> None:
        """Registers or renews. One try: the next heartbeat is the repeat. Raises BusUnavailable, Denied."""
        await self._write(state.worker, msgspec.json.encode(state), {})

    async def remove(self, worker: str) -> None:
        """Takes the worker out at once. Raises BusUnavailable, Denied."""
        await self._write(worker, b"", {_OPERATION: "PURGE", "Nats-Rollup": "sub"})

    async def _write(self, worker: str, data: bytes, headers: dict[str, str]) -> None:
        subject = f"{WORKERS_PREFIX}{token(worker, 'worker id')}"
        reply = await self._bus.wire.request(subject, data, headers=headers, timeout_s=self._bus.settings.attempt_s)
        decode_ack(reply.data, subject)

    async def all(self) -> list[WorkerState]:
        """The workers of this moment, by id. Raises BusUnavailable."""
        alive, _ = await self._snapshot()
        return [alive[worker] for worker in sorted(alive)]

    async def _snapshot(self) -> tuple[dict[str, WorkerState], set[str]]:
        """The workers alive, and the ids that said goodbye lately."""
        replies = await self._bus.direct_many(WORKERS_STREAM, {"multi_last": [f"{WORKERS_PREFIX}>"]})
        alive: dict[str, WorkerState] = {}
        removed: set[str] = set()
        for reply in replies:
            worker = reply.headers.get("Nats-Subject", "").removeprefix(WORKERS_PREFIX)
            if _OPERATION in reply.headers:
                removed.add(worker)
            elif (state := _state(reply)) is not None:
                alive[worker] = state
        return alive, removed

    async def watch(self, *, poll_s: float = 1.0) -> AsyncIterator[WorkerChange]:
        """Changes as they are noticed, within `poll_s`; first all present workers as `online`. Ends with the bus.

        Nobody could heartbeat in an outage: for one time-to-live after a reconnect a missing worker is not yet gone.
        """
        clock = asyncio.get_running_loop().time
        known: dict[str, WorkerState] = {}
        patient_until = 0.0
        reconnects = self._bus.reconnects
        while not self._bus.closed:
            try:
                alive, removed = await self._snapshot()
            except BusUnavailable:
                patient_until = clock() + self._ttl_s
                continue
            if self._bus.reconnects != reconnects:
                reconnects = self._bus.reconnects
                patient_until = clock() + self._ttl_s
            for worker, state in alive.items():
                before = known.get(worker)
                known[worker] = state
                if before is None or before.started_at != state.started_at:
                    yield WorkerChange("online", state)
            for worker in [worker for worker in known if worker not in alive]:
                if worker in removed:
                    yield WorkerChange("removed", known.pop(worker))
                elif clock() >= patient_until:
                    yield WorkerChange("expired", known.pop(worker))
            await asyncio.sleep(poll_s)


def _state(reply: Reply) -> WorkerState | None:
    if _MARKER in reply.headers or not reply.data:
        return None
    try:
        return msgspec.json.decode(reply.data, type=WorkerState)
    except msgspec.DecodeError:
        return None  # a worker of another version: it is there, but says nothing that we understand
