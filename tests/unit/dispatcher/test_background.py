"""A service in the dispatcher's process fails for itself and comes back."""

from __future__ import annotations

import asyncio

from appliance.dispatcher.background import keep_running


async def test_what_fails_or_ends_is_started_again_and_nothing_else_falls() -> None:
    starts = 0
    working = asyncio.Event()

    async def serve() -> None:
        nonlocal starts
        starts += 1
        if starts == 1:
            raise RuntimeError("no such folder")
        if starts == 2:
            return
        working.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        kept = tasks.create_task(keep_running("a service", serve, delay_s=0.01))
        await working.wait()
        assert not kept.done()
        kept.cancel()
    assert starts == 3
