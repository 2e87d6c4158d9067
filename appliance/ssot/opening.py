"""From the configuration to an `SsotCache` over the running box, for every process that has one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from appliance.cache.opening import make_cache
from appliance.services.manager import DataManager
from appliance.services.readers import Readers
from appliance.ssot.cache import Live, SsotCache

if TYPE_CHECKING:
    from appliance.config import Config
    from bus.connection import Bus


@asynccontextmanager
async def open_ssot(
    config: Config,
    bus: Bus | None,
    *,
    websocket: Live | None = None,
    on_degraded: Callable[[str], None] | None = None,
    on_restored: Callable[[float], None] | None = None,
) -> AsyncIterator[SsotCache]:
    """Everything that an `SsotCache` needs, opened and closed with the block.

    `websocket` gives the live feed's own figures. `on_degraded(reason)` and `on_restored(down_s)` hear of the cache's
    breaker (see `make_cache`); it is restored when it has also been told what it missed. Without a bus the sections
    that need it are null and named as stale.
    """
    telling: set[asyncio.Task[None]] = set()

    def back(down_s: float) -> None:
        if on_restored is not None:
            task = asyncio.create_task(tell(on_restored, down_s), name="ssot-restored")
            telling.add(task)
            task.add_done_callback(telling.discard)

    async def tell(restored: Callable[[float], None], down_s: float) -> None:
        await ssot.settled()
        restored(down_s)

    async with AsyncExitStack() as stack:
        stack.callback(lambda: [task.cancel() for task in telling])
        cache = await make_cache(config, on_degraded=on_degraded, on_restored=back)
        await stack.enter_async_context(cache)
        readers = Readers(config.data_dir / "appliance.db", timeout_s=config.cache.query_timeout_s)
        await stack.enter_async_context(readers)
        manager = DataManager(config, readers, bus)
        ssot = await stack.enter_async_context(SsotCache(cache, manager, config.cache_ttl_s, websocket=websocket))
        yield ssot
