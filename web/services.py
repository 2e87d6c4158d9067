"""What the handlers work with: one object for the whole process, opened and closed with it.

Handlers take it as the argument `services: Given`. Each owner of a part adds a field here and opens it in
`open_services`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from litestar.di import NamedDependency

from appliance.accounts.database import path_of
from appliance.config import Config
from appliance.services.readers import Readers
from appliance.ssot.cache import SsotCache
from appliance.ssot.opening import open_ssot
from bus.connection import Bus
from bus.events import UserAction
from bus.server import credentials
from web.auth.gate import Gate
from web.auth.login import Doorkeeper
from web.database import WebDatabase

QUERY_TIMEOUT_S = 5.0
SOURCE = "web"


class Services:
    """Everything that a handler may need. A plain class: Litestar would take a dataclass apart to validate it."""

    def __init__(
        self,
        *,
        config: Config,
        bus: Bus,
        ssot: SsotCache,
        readers: Readers,
        db: WebDatabase,
        gate: Gate,
        door: Doorkeeper,
    ) -> None:
        self.config = config
        self.bus = bus
        """As role `web`."""
        self.ssot = ssot
        self.readers = readers
        """The read model, `appliance.db`."""
        self.db = db
        """`web.db`."""
        self.gate = gate
        """Who is behind a cookie or token; tells when a session ends."""
        self.door = door
        """Login and what belongs to it."""

    async def audit(self, user: str, action: str, target: str | None, remote: str | None) -> None:
        """Store one line of the audit trail: who did what to which thing, from where. Raises `BusUnavailable`."""
        await self.bus.publish(UserAction(source=SOURCE, user=user, action=action, target=target, remote=remote))


Given = NamedDependency[Services]
"""The type of a handler's argument `services`."""


@asynccontextmanager
async def open_services(config: Config, bus: Bus | None = None) -> AsyncIterator[Services]:
    """Open everything. `bus`: a connection to use instead of one of our own. Raises what its parts raise."""
    async with AsyncExitStack() as stack:
        if bus is None:
            settings = await asyncio.to_thread(credentials, config.data_dir, "web")
            bus = await stack.enter_async_context(await Bus.connect(settings))
        db = await WebDatabase.open(path_of(config.data_dir))
        stack.push_async_callback(db.close)
        ssot = await stack.enter_async_context(open_ssot(config, bus))
        readers = Readers(config.data_dir / "appliance.db", timeout_s=QUERY_TIMEOUT_S)
        await stack.enter_async_context(readers)
        gate = Gate(db, config.web)
        door = Doorkeeper(gate, per_minute=config.web.login_per_minute)
        stack.push_async_callback(door.close)
        services = Services(config=config, bus=bus, ssot=ssot, readers=readers, db=db, gate=gate, door=door)
        await stack.enter_async_context(_running(gate.watch()))
        yield services


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
