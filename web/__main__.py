"""`python -m web`: the web process."""

from __future__ import annotations

import asyncio

from appliance.config import Config
from appliance.face import write_web_file
from appliance.listening import listen
from appliance.parent import Status, StatusPipe
from appliance.service import run_service, until_stopped
from web.app import create_app
from web.server import serving
from web.services import open_services


async def serve(config: Config, status: StatusPipe, stopping: asyncio.Event) -> None:
    sock = listen(config.web.host, config.web.port)
    async with open_services(config) as services, serving(create_app(services), config, sock) as task:
        await asyncio.to_thread(write_web_file, config.data_dir, config.web, sock.getsockname()[1])
        status.send(Status(ready=True))
        await until_stopped(asyncio.shield(task), stopping, status)
        services.uploads.leases.ask_all()


if __name__ == "__main__":
    run_service(serve)
