"""The connection to the bus: opened, kept, mended and closed. `bus.connection.Bus` adds what one does with it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import nats.errors
from msgspec import Struct
from nats.js.client import JetStreamContext

from bus.client import Client
from bus.errors import BusUnavailable, Denied, Retryable, StorageRefused
from bus.wire import API, DOMAIN, Wire

if TYPE_CHECKING:
    from bus.feed import Feed

log = logging.getLogger(__name__)
T = TypeVar("T")

_PING_INTERVAL_S = 5
_RECONNECT_FIRST_S = 0.05
_RECONNECT_MAX_S = 2.0
_FLUSH_ON_CLOSE_S = 0.3
_PENDING_BYTES = 8 * 1024 * 1024
"""Above all that can be unsent at a time (commits are bounded, telemetry stops far below), so that the library never
waits for room in the middle of a publish: there it would swallow a cancellation (trap 7)."""
_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE)


class BusSettings(Struct, frozen=True, kw_only=True):
    """How to reach the bus. The password never shows in a representation."""

    url: str
    user: str
    password: str
    name: str = "appliance"
    """What the server's connection list shows."""
    attempt_s: float = 3.0
    """Wait for one answer."""
    patience_s: float = 15.0
    """Repeat a call with the same ids for this long before BusUnavailable; covers a restart of nats-server."""

    def __repr__(self) -> str:
        return f"BusSettings(url={self.url!r}, user={self.user!r}, name={self.name!r})"


class Link:
    """One client connection that reconnects for ever with a growing delay, and says so when it ends for good.

    `client`, `wire` and `feeds` are for the modules of this package.
    """

    def __init__(self, settings: BusSettings) -> None:
        self.settings = settings
        self.client = Client()
        self._inbox = f"_INBOX_{settings.user}"
        self.wire = Wire(self.client, f"{self._inbox}.{random.getrandbits(64):016x}")
        self.feeds: set[Feed[Any]] = set()
        self.reconnects = 0
        self._connected = asyncio.Event()
        self._closed = asyncio.Event()
        self._closing = False
        self._refused: asyncio.Future[None] | None = None
        self._failed_tries = 0
        self._on_reconnect: set[Callable[[], None]] = set()
        self._on_disconnect: set[Callable[[], None]] = set()

    # -- the connection ---------------------------------------------------------------------------------------------

    async def open(self, timeout_s: float) -> None:
        """Connects. Raises BusUnavailable after `timeout_s` without a server, Denied for bad credentials."""
        self._refused = asyncio.get_running_loop().create_future()
        # Endless tries make the library's first connect endless too (trap 5), hence the limit around it.
        opening = asyncio.ensure_future(
            self.client.connect(
                self.settings.url,
                name=self.settings.name,
                user=self.settings.user,
                password=self.settings.password,
                inbox_prefix=self._inbox,
                connect_timeout=2,
                reconnect_time_wait=0.1,  # type: ignore[arg-type]  # any number works
                reconnect_to_server_handler=self._next_try,
                max_reconnect_attempts=-1,
                ping_interval=_PING_INTERVAL_S,
                pending_size=_PENDING_BYTES,
                max_outstanding_pings=2,
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnected,
                reconnected_cb=self._on_reconnected,
                closed_cb=self._on_closed,
            )
        )
        try:
            await asyncio.wait({opening, self._refused}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                opening.result()
            elif self._refused.done():
                raise Denied(f"the bus at {self.settings.url} refused user {self.settings.user!r}: wrong password?")
            else:
                raise BusUnavailable(f"no bus at {self.settings.url} within {timeout_s:g} s: is nats-server running?")
        except (nats.errors.Error, ValueError) as error:
            raise BusUnavailable(f"{self.settings.url} cannot be connected to: {error}") from error
        finally:
            if not opening.done():
                opening.cancel()
                await asyncio.wait({opening})
        await self.wire.start()
        self._connected.set()

    async def close(self) -> None:
        """Ends the connection within a second. Not a drain: that waits on idle subscriptions for ever (trap 3)."""
        self._closing = True
        if self.client.is_connected:
            with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
                async with asyncio.timeout(_FLUSH_ON_CLOSE_S):
                    await self.client.flush()
        with contextlib.suppress(nats.errors.Error, OSError):
            await self.client.close()
        await self._on_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        return self.client.is_connected

    @property
    def closed(self) -> bool:
        """True after `close()`, and when the server ended the connection for good: then end the process."""
        return self._closed.is_set()

    async def wait_closed(self) -> None:
        """Returns when the connection is closed for good. A service awaits it and ends: it cannot work without."""
        await self._closed.wait()

    @property
    def jetstream(self) -> JetStreamContext:
        """The client library's context in our domain, for provisioning."""
        return self.client.jetstream(domain=DOMAIN)

    @property
    def server_version(self) -> tuple[int, int, int]:
        version = self.client.connected_server_version
        return (version.major, version.minor, version.patch)

    def on_reconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` after each reconnect; the returned function ends that."""
        self._on_reconnect.add(callback)
        return lambda: self._on_reconnect.discard(callback)

    def on_disconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` when the connection is lost, before anything of the next one; the result ends that."""
        self._on_disconnect.add(callback)
        return lambda: self._on_disconnect.discard(callback)

    def _next_try(self, servers: object, info: object) -> tuple[None, float]:
        # A try that failed after its connect (a hanging server) leaves its socket open until it is collected.
        if (transport := getattr(self.client, "_transport", None)) is not None:
            transport.close()
        delay = min(_RECONNECT_MAX_S, _RECONNECT_FIRST_S * 2**self._failed_tries)
        self._failed_tries = min(self._failed_tries + 1, 16)
        return None, delay * random.uniform(0.7, 1.3)  # noqa: S311 - jitter

    async def _on_error(self, error: Exception) -> None:
        if "authorization violation" in str(error).lower():  # the library has a class for it, but uses it at times only
            if self._refused is not None and not self._refused.done():
                self._refused.set_result(None)
            log.error("bus: user %s refused by %s", self.settings.user, self.settings.url)
            return
        violation = _VIOLATION.search(str(error))
        if violation is not None:
            kind, subject = violation.groups()
            verb = "publish" if kind.lower() == "publish" else "subscribe to"
            denied = Denied(f"user {self.settings.user!r} may not {verb} {subject}")
            if not self.wire.deny(denied, subject):
                log.error("bus: %s", denied)
            return
        if not self._closing:
            log.debug("bus: %s", error)

    async def _on_disconnected(self) -> None:
        self._connected.clear()
        self.wire.fail(BusUnavailable("the bus connection was lost before the answer"))
        if not self._closing:
            log.warning("bus: connection to %s lost, reconnecting", self.settings.url)
        for callback in tuple(self._on_disconnect):
            callback()

    async def _on_reconnected(self) -> None:
        self._failed_tries = 0
        self.reconnects += 1
        self.wire.forget_denials()
        self._connected.set()
        log.info("bus: connected again to %s", self.settings.url)
        for feed in self.feeds:
            feed.reconnects += 1
        for callback in tuple(self._on_reconnect):
            callback()

    async def _on_closed(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        self._connected.set()  # wakes those who wait for a connection, to be told
        self.wire.fail(BusUnavailable("the bus connection is closed"))
        for feed in self.feeds:
            feed.end()
        if not self._closing:
            log.critical("bus: connection to %s closed for good: %s", self.settings.url, self.client.last_error)

    # -- calls that may be repeated -----------------------------------------------------------------------------------

    async def settle(self, timeout_s: float) -> None:
        """Returns when the server has worked off all that was sent so far. Raises BusUnavailable.

        The library's flush is no barrier: its PING overtakes what is still in the buffer. It also empties the buffer,
        so a second one is. And without a connection it returns as if all were well.
        """
        for _ in range(2):
            try:
                await self.client.flush(timeout=timeout_s)
            except (nats.errors.Error, OSError) as error:
                raise BusUnavailable(f"the bus does not answer: {error}") from error
            if not self.client.is_connected:
                raise BusUnavailable("the bus connection was lost")

    async def patiently(
        self, what: str, call: Callable[[float], Awaitable[T]], *, patience_s: float | None = None
    ) -> T:
        """Repeats `call(timeout_s)` on Retryable refusals until patience ends. For idempotent calls only."""
        clock = asyncio.get_running_loop().time
        patience_s = patience_s or self.settings.patience_s
        deadline = clock() + patience_s
        pause_s = 0.02
        while True:
            if self.closed or self._closing:
                raise BusUnavailable(f"{what}: the bus connection is closed")
            left = deadline - clock()
            try:
                if not self._connected.is_set():
                    async with asyncio.timeout(max(left, 0.001)):
                        await self._connected.wait()
                return await call(min(self.settings.attempt_s, max(left, 0.05)))
            except StorageRefused:
                raise
            except (Retryable, TimeoutError) as error:
                if not (self.closed or self._closing) and clock() + pause_s >= deadline:
                    raise BusUnavailable(f"{what}: outcome unknown after {patience_s:g} s") from error
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.5)

    async def api(self, verb: str, body: Any = None) -> bytes:
        """The answer to a JetStream API call, `STREAM.INFO.EVENTS`. It is repeated: idempotent verbs only."""
        return await self.patiently(verb, lambda timeout_s: self.wire.api(f"{API}.{verb}", body, timeout_s=timeout_s))
