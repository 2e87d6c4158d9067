"""The bus alone, for maintenance commands that run while the box is down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from appliance.config import Config
from appliance.supervisor.box import bus_limits
from appliance.supervisor.child import Child, Death, Restart
from appliance.supervisor.programs import bus_program
from bus.connection import Bus
from bus.server import credentials, prepare, wait_ready


@asynccontextmanager
async def bus_only(config: Config) -> AsyncIterator[Bus]:
    """Start nats-server on this data folder, yield a connection, end it. The caller holds the box's lock."""
    server = await asyncio.to_thread(
        prepare, config.data_dir, port=-1, binary=config.bus.binary, limits=bus_limits(config)
    )

    async def ready() -> None:
        await wait_ready(server, config.supervisor.start_timeout_s)

    async def nothing_on_ready(name: str, pid: int) -> None:
        return None

    async def nothing_on_death(death: Death) -> None:
        return None

    config.logs_dir.mkdir(parents=True, exist_ok=True)
    child = Child(
        bus_program(server, ready),
        run_dir=config.data_dir / "run",
        log_dir=config.logs_dir,
        restart=Restart(delay_s=1.0, delay_max_s=1.0),
        on_ready=nothing_on_ready,
        on_death=nothing_on_death,
    )
    await child.start()
    try:
        async with await Bus.connect(credentials(config.data_dir, "supervisor", url=server.url)) as bus:
            yield bus
    finally:
        await child.stop(config.supervisor.stop_grace_s)
