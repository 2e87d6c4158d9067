"""`python -m appliance.dispatcher`: the dispatcher's process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

from appliance.config import Config
from appliance.control.keeper import Keeper
from appliance.dispatcher.opening import open_store
from appliance.dispatcher.said import SOURCE, Announcer
from appliance.dispatcher.service import Dispatcher
from appliance.parent import Status, StatusPipe
from appliance.service import run_service, signs_of_life, until_stopped
from appliance.ssot.opening import open_ssot
from appliance.storage.admission import Admission
from appliance.storage.guard import Guard
from appliance.storage.sweep import Sweeper
from appliance.watch.service import WatchFolder
from bus.connection import Bus
from bus.events import STAGES, CacheDegraded, CacheRestored
from bus.server import credentials
from bus.streams import DAY_S

SWITCH_S = 0.0005
"""How long one thread may keep the interpreter from another. A fact's way goes through three (the loop, the store and
back), while others compute the status document: with Python's 5 ms each step may cost as much."""


async def serve(config: Config, status: StatusPipe, stopping: asyncio.Event) -> None:
    async with signs_of_life(status):  # an upgrade of the tables, or a restored box's facts, may take minutes
        await _serve(config, status, stopping)


async def _serve(config: Config, status: StatusPipe, stopping: asyncio.Event) -> None:
    store = await open_store(config)
    try:
        async with await Bus.connect(credentials(config.data_dir, "dispatcher")) as bus:
            minimum = {stage: int(getattr(config.workers, stage).min) for stage in STAGES}
            announcer = Announcer(bus)
            async with open_ssot(
                config,
                bus,
                on_degraded=lambda reason: announcer.say(CacheDegraded(source=SOURCE, reason=reason)),
                on_restored=lambda down_s: announcer.say(CacheRestored(source=SOURCE, down_s=round(down_s, 3))),
            ) as ssot:
                sweeper = Sweeper(bus, store, config)
                background: dict[str, Callable[[], Awaitable[None]]] = {
                    "the storage guard": Guard(bus, config, sweeper).serve,
                    "retention": sweeper.serve,
                }
                if config.input.enabled:
                    folder = WatchFolder(
                        bus, store, config.data_dir, config.input, config.stages.download, admission=Admission(config)
                    )
                    background["the watch folder"] = folder.serve
                dispatcher = Dispatcher(
                    bus,
                    store,
                    config.data_dir,
                    config.dispatcher,
                    cache=ssot,
                    announcer=announcer,
                    minimum=minimum,
                    close_intake=config.alerts.close_intake,
                    bounds={stage: config.workers.bounds(stage) for stage in STAGES},
                    stall_s={stage: float(getattr(config.workers, stage).stall_timeout_s) for stage in STAGES},
                    keeper=Keeper(
                        bus, by=SOURCE, max_age_s=config.bus.max_age_days * DAY_S, max_bytes=config.bus.max_bytes
                    ),
                    background=background,
                    retention=sweeper.asked,
                )
                await dispatcher.prepare()
                status.send(Status(ready=True))
                await until_stopped(dispatcher.serve(), stopping, status)
                await dispatcher.finish()
    finally:
        await store.close()


if __name__ == "__main__":
    sys.setswitchinterval(SWITCH_S)
    run_service(serve)
