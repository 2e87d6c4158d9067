"""What nats-server says of its own health: the one place that tells a stream which no longer stores.

After a write that failed the server freezes the stream for good: it serves what it has, publishers get no answer, and
space that returns changes nothing (measured on 2.15.1). Its health report names it, without storing anything. The
question goes over the system account, as a user who may ask this and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec
import nats.errors
from msgspec import Struct, field
from nats.aio.client import Client

from bus.errors import BusUnavailable
from bus.server import HEALTH_SUBJECT, HEALTH_USER, health_password

CONNECT_S = 2
ASK_S = 3.0
WRITE_ERROR = "write error"
"""How the server's report begins the reason of a frozen stream (server/monitor.go, 2.15)."""


class Health(Struct, frozen=True):
    """The server's answer."""

    status_code: int = 0
    error: str = ""

    @property
    def frozen(self) -> bool:
        """A stream's file could not be written, and nothing is stored in it until the server is started again."""
        return WRITE_ERROR in self.error


class _Report(Struct):
    data: Health = field(default_factory=Health)


class HealthProbe:
    """Asks the embedded server of a data folder; connects when it is first asked, and anew after an outage."""

    def __init__(self, data_dir: Path, url: str) -> None:
        self._data_dir = data_dir
        self._url = url
        self._client: Client | None = None

    async def ask(self) -> Health:
        """Raises BusUnavailable when nobody answers."""
        try:
            client = self._client or await self._connect()
            reply = await client.request(HEALTH_SUBJECT, b"", timeout=ASK_S)
            return msgspec.json.decode(reply.data, type=_Report).data
        except (nats.errors.Error, OSError, TimeoutError, msgspec.DecodeError) as error:
            await self.close()
            raise BusUnavailable(
                f"the bus's server does not tell its health: {error or type(error).__name__}"
            ) from error

    async def close(self) -> None:
        """Ends the connection."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(nats.errors.Error, OSError):
                await client.close()

    async def _connect(self) -> Client:
        client = Client()
        await client.connect(
            self._url,
            name=HEALTH_USER,
            user=HEALTH_USER,
            password=await asyncio.to_thread(health_password, self._data_dir),
            inbox_prefix=f"_INBOX_{HEALTH_USER}",
            connect_timeout=CONNECT_S,
            allow_reconnect=False,
            error_cb=_quiet,
        )
        self._client = client
        return client


async def _quiet(_error: Exception) -> None:
    """What goes wrong is raised where it is asked."""
