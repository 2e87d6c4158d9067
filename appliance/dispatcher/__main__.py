"""`python -m appliance.dispatcher`: the dispatcher's process."""

from __future__ import annotations

import asyncio

from appliance.config import Config
from appliance.dispatcher.service import Dispatcher
from appliance.parent import Status, StatusPipe
from appliance.service import run_service, until_stopped
from appliance.store.writer import Writer
from bus.connection import Bus
from bus.events import STAGES
from bus.server import credentials


async def serve(config: Config, status: StatusPipe, stopping: asyncio.Event) -> None:
    store = await Writer.open(config.data_dir / "appliance.db")
    try:
        async with await Bus.connect(credentials(config.data_dir, "dispatcher")) as bus:
            minimum = {stage: int(getattr(config.workers, stage).min) for stage in STAGES}
            dispatcher = Dispatcher(bus, store, config.data_dir, config.dispatcher, minimum=minimum)
            await dispatcher.prepare()
            status.send(Status(ready=True))
            await until_stopped(dispatcher.serve(), stopping, status)
    finally:
        await store.close()


if __name__ == "__main__":
    run_service(serve)
