"""What the handlers work with: one object for the whole process, opened and closed with it.

Handlers take it as the argument `services: Given`. Each owner of a part adds a field here and opens it in
`open_services`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from litestar.di import NamedDependency
from msgspec.structs import replace

from appliance.accounts.database import path_of
from appliance.config import Config
from appliance.control.ledger import Ledger
from appliance.services.readers import Readers
from appliance.ssot.cache import SsotCache
from appliance.ssot.opening import open_ssot
from appliance.storage.admission import Admission
from bus.connection import Bus
from bus.server import credentials
from web.audit import AuditTrail
from web.auth.gate import Gate
from web.auth.login import Doorkeeper
from web.database import WebDatabase
from web.live.feeder import Feeder
from web.live.figures import FeedCollector
from web.live.hub import Hub
from web.metrics import WebMetrics
from web.static import bundle
from web.uploads.courier import Courier
from web.uploads.room import Room
from web.uploads.service import Uploads
from web.uploads.sweep import Sweeper

log = logging.getLogger(__name__)
AGAIN_S = 1.0
QUERY_TIMEOUT_S = 5.0
BUS_PATIENCE_S = 5.0
"""How long a request waits for the event bus before it is answered with 503."""


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
        hub: Hub,
        admission: Admission,
        ledger: Ledger,
        uploads: Uploads,
        courier: Courier,
        trail: AuditTrail,
        metrics: WebMetrics,
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
        self.hub = hub
        """The live feed."""
        self.admission = admission
        """Whether the disk has room for one more job: one for jobs and uploads, so that each knows of the other's."""
        self.ledger = ledger
        """What people and the box itself hold: intake and stages."""
        self.uploads = uploads
        self.courier = courier
        """Tells the bus of complete uploads."""
        self.trail = trail
        self.metrics = metrics

    async def audit(self, user: str, action: str, target: str | None, remote: str | None) -> None:
        """Store one line of the audit trail: who did what to which thing, from where."""
        await self.trail.say(user, action, target, remote)


Given = NamedDependency[Services]
"""The type of a handler's argument `services`."""


@asynccontextmanager
async def open_services(config: Config, bus: Bus | None = None) -> AsyncIterator[Services]:
    """Open everything. `bus`: a connection to use instead of one of our own. Raises what its parts raise."""
    async with AsyncExitStack() as stack:
        if bus is None:
            settings = await asyncio.to_thread(credentials, config.data_dir, "web")
            patient = replace(settings, patience_s=BUS_PATIENCE_S)
            bus = await stack.enter_async_context(await Bus.connect(patient))
        await asyncio.to_thread(bundle)
        db = await WebDatabase.open(path_of(config.data_dir))
        stack.push_async_callback(db.close)
        hub = Hub(config.websocket)
        ssot = await stack.enter_async_context(open_ssot(config, bus, websocket=hub.figures))
        readers = Readers(config.data_dir / "appliance.db", timeout_s=QUERY_TIMEOUT_S)
        await stack.enter_async_context(readers)
        gate = Gate(db, config.web)
        door = Doorkeeper(gate, per_minute=config.web.login_per_minute)
        stack.push_async_callback(door.close)
        gate.on_end(hub.end_login)
        await stack.enter_async_context(Feeder(bus, hub, config.websocket.heartbeat_s).running())
        ledger = await stack.enter_async_context(Ledger(bus))
        metrics = WebMetrics()
        metrics.registry.register(FeedCollector(hub.figures))
        admission = Admission(config)
        uploads = Uploads(config, db, readers, Room(config, db, ledger, admission), metrics)
        stack.push_async_callback(uploads.close)
        courier = Courier(config, bus, db, ledger)
        uploads.tell = courier.wake
        trail = AuditTrail(bus, db)
        services = Services(
            config=config,
            bus=bus,
            ssot=ssot,
            readers=readers,
            db=db,
            gate=gate,
            door=door,
            hub=hub,
            admission=admission,
            ledger=ledger,
            uploads=uploads,
            courier=courier,
            trail=trail,
            metrics=metrics,
        )
        sweeper = Sweeper(uploads, readers, bus)
        for name, run in (
            ("sessions", gate.watch),
            ("outbox", courier.run),
            ("audit trail", trail.run),
            ("sweep of uploads", sweeper.run),
            ("looking at the disk", admission.keep_looking),
        ):
            await stack.enter_async_context(_running(name, run))
        yield services


@asynccontextmanager
async def _running(name: str, run: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Keep `run` running inside the block: a mistake in it is logged, and it begins again."""

    async def again() -> None:
        while True:
            try:
                await run()
            except Exception:
                log.exception("%s failed and begins again", name)
            await asyncio.sleep(AGAIN_S)

    task = asyncio.create_task(again(), name=name)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
