"""A real redis-server to kill and freeze, and a store of real facts to read."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance.cache.memory import MemoryCache
from appliance.cache.port import Cache
from appliance.cache.settings import Cache as CacheSettings
from appliance.cache.settings import CacheTtl
from appliance.config import Config
from appliance.services.manager import DataManager
from appliance.services.readers import Readers
from appliance.sqlite import sqlite3
from appliance.ssot.cache import SsotCache
from appliance.ssot.opening import open_ssot
from appliance.store import database
from appliance.store.database import open_writer
from appliance.store.projection import Projection, StoredFact
from appliance.supervisor.programs import cache_arguments
from bus.connection import Bus
from bus.events import AnyEvent, encode
from bus.subjects import event_subject
from tests import no_redis

EPOCH = "2026-01-01T00:00:00Z"


class RedisBox:
    """One redis-server on a unix socket, started as the supervisor starts it."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "r.sock"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    async def start(self) -> None:
        """Returns when it answers; kills it when it does not."""
        binary = shutil.which("redis-server") or shutil.which("valkey-server")
        assert binary is not None
        argv = cache_arguments(binary, self.socket, "")
        self._process = await asyncio.to_thread(
            subprocess.Popen, argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(10):
                while not await self._answers():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            await asyncio.to_thread(self.kill)
            raise

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(self.socket)
        except OSError:
            return False
        writer.write(b"PING\r\n")
        answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return answer.startswith(b"+PONG")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)


def has_redis() -> bool:
    return any(shutil.which(name) for name in no_redis.SERVERS)


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisBox]:
    if not has_redis():
        pytest.skip("no redis-server or valkey-server is installed")
    box = RedisBox(tmp_path)
    await box.start()
    yield box
    await asyncio.to_thread(box.kill)


class SharedCache:
    """A cache that several processes would share: Redis, or where there is none, one in memory for all."""

    def __init__(self, redis: RedisBox | None) -> None:
        self.kind = "memory" if redis is None else "redis"
        self._redis = redis
        self._memory = MemoryCache()

    @asynccontextmanager
    async def ssot(self, data_dir: Path, bus: Bus | None) -> AsyncIterator[SsotCache]:
        if self._redis is None:
            async with ssot_over(data_dir, self._memory, bus) as ssot:
                yield ssot
        else:
            async with open_ssot(config_of(data_dir, url=self._redis.url), bus) as ssot:
                yield ssot


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[SharedCache]:
    if not has_redis():
        yield SharedCache(None)
        return
    box = RedisBox(tmp_path)
    await box.start()
    yield SharedCache(box)
    await asyncio.to_thread(box.kill)


class StoreBox:
    """The dispatcher's side of `appliance.db`: facts in, rows and cursor out."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "appliance.db"
        self.connection: sqlite3.Connection = open_writer(self.path)
        self._projection = Projection(self.connection)
        self._projection.set_meta("epoch", EPOCH)

    async def project(self, *events: AnyEvent) -> int:
        """Stores and projects facts; the sequence of the last one."""
        return await asyncio.to_thread(self.project_now, events)

    async def execute(self, statement: str) -> None:
        await asyncio.to_thread(lambda: self.connection.execute(statement).fetchall())

    def project_now(self, events: Sequence[AnyEvent]) -> int:
        start = self._projection.cursor + 1
        self._projection.apply([StoredFact(n, event_subject(e), encode(e)) for n, e in enumerate(events, start)])
        return self._projection.cursor


@pytest.fixture
def rollback_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with an SQLite whose write-ahead log is not to be trusted; with one, nobody is ever locked out."""
    monkeypatch.setattr(database, "journal_mode", lambda: "persist")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreBox]:
    box = StoreBox(tmp_path)
    yield box
    box.connection.close()


def config_of(data_dir: Path, **cache: object) -> Config:
    return Config(data_dir=data_dir, cache=CacheSettings(**cache), cache_ttl_s=CacheTtl())  # type: ignore[arg-type]


@asynccontextmanager
async def ssot_over(
    data_dir: Path, cache: Cache, bus: Bus | None = None, ttl_s: CacheTtl | None = None
) -> AsyncIterator[SsotCache]:
    """An `SsotCache` as `open_ssot` makes it, over a cache that is already open."""
    config = config_of(data_dir)
    async with Readers(config.data_dir / "appliance.db", timeout_s=config.cache.query_timeout_s) as readers:
        manager = DataManager(config, readers, bus)
        async with SsotCache(cache, manager, ttl_s or config.cache_ttl_s) as ssot:
            yield ssot
