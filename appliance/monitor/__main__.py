"""`python -m appliance.monitor`: the hardware monitor's process."""

from __future__ import annotations

import asyncio

from appliance.alerts.notifier import Notifier
from appliance.config import Config
from appliance.monitor.service import Monitor
from appliance.parent import Status, StatusPipe
from appliance.service import run_service, until_stopped
from bus.connection import Bus
from bus.server import credentials


async def serve(config: Config, status: StatusPipe, stopping: asyncio.Event) -> None:
    async with await Bus.connect(credentials(config.data_dir, "monitor")) as bus:
        monitor = await asyncio.to_thread(Monitor, bus, config)
        status.send(Status(ready=True))
        await until_stopped(_serve(monitor, Notifier(bus, config.notify)), stopping, status)


async def _serve(monitor: Monitor, notifier: Notifier) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(monitor.run())
        tasks.create_task(notifier.run())


if __name__ == "__main__":
    run_service(serve)
