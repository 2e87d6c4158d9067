"""Worker registry: renewing, expiry, removal, restarts of the server."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from bus.errors import BusUnavailable
from bus.registry import Registry, WorkerChange, WorkerState
from bus.streams import Limits
from tests.integration.conftest import NatsBox, nats_box

QUICK = Limits(worker_ttl_s=1.0)


def state(worker: str, **changes: object) -> WorkerState:
    plain = WorkerState(worker=worker, stage="cut", pid=1, host="box", started_at=datetime(2026, 1, 1, tzinfo=UTC))
    return msgspec.structs.replace(plain, **changes)


async def test_put_renew_remove(nats: NatsBox) -> None:
    registry = Registry(await nats.bus("worker"))
    assert await registry.all() == []
    await registry.put(state("w2"))
    await registry.put(state("w1"))
    await registry.put(state("w1", job="j", progress=0.5))
    assert await registry.all() == [state("w1", job="j", progress=0.5), state("w2")]
    await registry.remove("w1")
    assert await registry.all() == [state("w2")]
    await registry.put(state("w1"))
    assert [worker.worker for worker in await registry.all()] == ["w1", "w2"]
    with pytest.raises(ValueError, match="worker id"):
        await registry.put(state("w.1"))


async def test_watch_tells_who_came_who_left_and_who_vanished(tmp_path: Path) -> None:
    async with nats_box(tmp_path, QUICK) as nats:
        registry = Registry(await nats.bus("worker"), QUICK)
        watching = Registry(await nats.bus("dispatcher"), QUICK)
        changes: asyncio.Queue[WorkerChange] = asyncio.Queue()

        async def watch() -> None:
            async for change in watching.watch(poll_s=0.05):
                changes.put_nowait(change)

        async def next_change() -> tuple[str, str]:
            change = await asyncio.wait_for(changes.get(), 8)
            return change.kind, change.state.worker

        await registry.put(state("here"))
        task = asyncio.create_task(watch())
        try:
            assert await next_change() == ("online", "here")
            await registry.put(state("leaver"))
            assert await next_change() == ("online", "leaver")
            await registry.remove("leaver")
            assert await next_change() == ("removed", "leaver")
            assert await next_change() == ("expired", "here")
            assert await registry.all() == []  # trap 9: the server's marker is not a worker
            await registry.put(state("here"))  # and does not keep one out
            assert await next_change() == ("online", "here")
            await registry.put(state("here", started_at=datetime(2026, 1, 2, tzinfo=UTC)))
            assert await next_change() == ("online", "here")
        finally:
            task.cancel()
            await asyncio.wait({task})


async def test_a_restart_of_the_server_is_no_mass_death(nats: NatsBox) -> None:
    worker, watcher = await nats.bus("worker"), await nats.bus("monitor")
    registry = Registry(worker)
    await registry.put(state("w1"))
    seen: list[WorkerChange] = []

    async def watch() -> None:
        async for change in Registry(watcher).watch(poll_s=0.05):
            seen.append(change)  # noqa: PERF401 - watched while it grows

    task = asyncio.create_task(watch())
    while not seen:
        await asyncio.sleep(0.01)
    await nats.restart()
    while watcher.reconnects == 0 or worker.reconnects == 0:
        await asyncio.sleep(0.01)
    assert await Registry(watcher).all() == [state("w1")]
    await registry.put(state("w1"))
    await asyncio.sleep(0.2)
    await watcher.close()  # ends the watch
    await asyncio.wait_for(task, 2)
    assert [(change.kind, change.state.worker) for change in seen] == [("online", "w1")]


async def test_put_in_an_outage_says_so_and_does_not_wait_long(nats: NatsBox) -> None:
    registry = Registry(await nats.bus("worker"))
    await nats.kill()
    async with asyncio.timeout(4):
        with pytest.raises(BusUnavailable):
            await registry.put(state("w1"))
