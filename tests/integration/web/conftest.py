"""The web process's application behind a real uvicorn on a free port, over a real bus.

`web` is served from the test's own event loop, so a test can look at its `services`. `await web.client("viewer")` is an
HTTP client that is logged in; `web.client()` is nobody's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
from msgspec.structs import replace

from appliance.accounts import tokens, users
from appliance.accounts.roles import Role
from appliance.accounts.secrets import hash_password
from appliance.cache.settings import Cache
from appliance.config import Config
from appliance.face import Web
from appliance.listening import listen
from appliance.store.database import open_writer
from tests.integration.conftest import NatsBox
from web.app import create_app
from web.server import serving
from web.services import Services, open_services

PASSWORD = "correct horse battery"
_hash = ""


class WebBox:
    """A served application. Users are named as their roles; all have PASSWORD."""

    def __init__(self, nats: NatsBox, config: Config, services: Services, port: int) -> None:
        self.nats = nats
        self.config = config
        self.services = services
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._clients = AsyncExitStack()

    async def add_user(self, user: str, role: Role) -> None:
        global _hash
        _hash = _hash or await asyncio.to_thread(hash_password, PASSWORD, "nobody")
        await self.services.db.change(lambda db: users.add(db, user, _hash, role, self.services.gate.clock()))

    async def token(self, role: Role, name: str = "test") -> str:
        """The secret of a new API token."""
        now = self.services.gate.clock()
        _, secret = await self.services.db.change(
            lambda db: tokens.create(db, name=name, role=role, by="test", now=now)
        )
        return secret

    async def nobody(self, **options: object) -> httpx.AsyncClient:
        client = httpx.AsyncClient(base_url=self.url, timeout=30, trust_env=False, **options)  # type: ignore[arg-type]
        return await self._clients.enter_async_context(client)

    async def client(self, role: Role, user: str | None = None) -> httpx.AsyncClient:
        """A browser in which the user of this role (or `user`, made when missing) is logged in."""
        name = user or role
        with contextlib.suppress(Exception):
            await self.add_user(name, role)
        client = await self.nobody()
        answer = await client.post("/api/login", json={"user": name, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        client.headers["X-CSRF-Token"] = answer.json()["csrf"]
        return client

    async def bearer(self, role: Role) -> httpx.AsyncClient:
        """A program with an API token of this role."""
        return await self.nobody(headers={"Authorization": f"Bearer {await self.token(role)}"})

    async def close(self) -> None:
        await self._clients.aclose()


def config_for(nats: NatsBox, **web: object) -> Config:
    return Config(data_dir=nats.data_dir, cache=Cache(url="off"), web=replace(Web(port=0), **web))


@asynccontextmanager
async def web_box(nats: NatsBox, config: Config | None = None) -> AsyncIterator[WebBox]:
    """Serve the application over this bus; `config` changes its settings."""
    config = config or config_for(nats)
    (await asyncio.to_thread(open_writer, config.data_dir / "appliance.db")).close()
    sock = listen("127.0.0.1", 0)
    port = sock.getsockname()[1]
    async with open_services(config) as services, serving(create_app(services), config, sock):
        box = WebBox(nats, config, services, port)
        try:
            yield box
        finally:
            await box.close()


@pytest.fixture
async def web(nats: NatsBox) -> AsyncIterator[WebBox]:
    async with web_box(nats) as box:
        yield box
