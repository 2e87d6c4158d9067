"""The cache in a Redis or Valkey server: bounded calls behind the breaker, and a watch that notices trouble by itself.

A killed server refuses at once, a frozen one (SIGSTOP, swap) only by its silence, and nobody may be calling just then.
So the watch asks for a sign of life every `WATCH_S` and, once that fails, again at once until the breaker decides: it
is open within a second of either, and closed again within `recovery_timeout_s` of the server's return, traffic or not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from appliance.breaker import Breaker, State
from appliance.cache.port import Cache, ServerFigures
from appliance.errors import CacheUnavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")

WATCH_S = 0.4
MAX_CONNECTIONS = 8
COMMANDS = ("ping", "mget", "set", "unlink", "info", "dbsize")
"""All that is ever asked of the server. Our own one refuses everything else (`appliance.supervisor.programs`)."""


class RedisCache(Cache):
    """`url` is redis://, rediss:// or unix://. `prefix` goes before every key. It may be opened without a server."""

    kind = "redis"

    def __init__(self, url: str, breaker: Breaker, *, prefix: str = "", timeout_s: float = 0.05) -> None:
        self._url = url
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._breaker = breaker
        self._client: Redis | None = None
        self._watch_task: asyncio.Task[None] | None = None
        self._succeeded_at = float("-inf")

    @property
    def state(self) -> State:
        return self._breaker.state

    @property
    def era(self) -> int:
        return self._breaker.opened

    async def __aenter__(self) -> Self:
        self._client = await asyncio.to_thread(_client, self._url, self._timeout_s)
        self._watch_task = asyncio.create_task(self._watch(), name="cache-watch")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watch_task is not None:
            self._watch_task.cancel()
            await asyncio.gather(self._watch_task, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        names = [self._prefix + key for key in keys]
        found = await self._call(lambda client: client.mget(names))
        return cast("list[bytes | None]", found)

    async def set_many(self, entries: Mapping[str, bytes], ttl_s: float) -> None:
        def store(client: Redis) -> Awaitable[Any]:
            pipeline = client.pipeline(transaction=False)
            for key, value in entries.items():
                pipeline.set(self._prefix + key, value, px=max(1, round(ttl_s * 1000)))
            return pipeline.execute()

        if entries:
            await self._call(store)

    async def delete(self, keys: Collection[str]) -> None:
        if keys:
            await self._call(lambda client: client.unlink(*(self._prefix + key for key in keys)))

    async def figures(self) -> ServerFigures | None:
        def ask(client: Redis) -> Awaitable[Any]:
            pipeline = client.pipeline(transaction=False)
            for section in ("memory", "stats", "server"):
                pipeline.info(section)
            pipeline.dbsize()
            return pipeline.execute()

        memory, stats, server, entries = await self._call(ask)
        return ServerFigures(
            entries=entries,
            used_bytes=memory["used_memory"],
            max_bytes=memory.get("maxmemory") or None,
            evicted=stats["evicted_keys"],
            uptime_s=server["uptime_in_seconds"],
        )

    async def _call(self, send: Callable[[Redis], Awaitable[T]]) -> T:
        from redis.exceptions import RedisError

        assert self._client is not None, "the cache is used before it is opened"
        permit = self._breaker.enter()
        if permit is None:
            raise CacheUnavailable("the cache is left alone: its breaker is open")
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await send(self._client)
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            reason = str(error) or f"no answer within {self._timeout_s * 1000:.0f} ms"
            self._breaker.failed(permit, reason)
            raise CacheUnavailable(f"the cache does not answer: {reason}") from error
        except BaseException:
            self._breaker.abandoned(permit)
            raise
        self._breaker.succeeded(permit)
        self._succeeded_at = time.monotonic()
        return answer

    async def _watch(self) -> None:
        while True:
            quiet_s = time.monotonic() - self._succeeded_at
            if self._breaker.state == "closed" and quiet_s < WATCH_S:
                await asyncio.sleep(WATCH_S - quiet_s)
                continue
            await asyncio.sleep(self._breaker.wait_s())
            try:
                await self._call(lambda client: cast("Awaitable[Any]", client.ping()))
            except CacheUnavailable:
                # While the breaker counts, the next try follows at once; a refused connection comes back immediately,
                # so the loop must still let others run.
                await asyncio.sleep(0.005)


def _client(url: str, timeout_s: float) -> Redis:
    """In a thread: importing the library reads files, and takes a while."""
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        driver_info=None,  # else each new connection looks the library's version up on the disk
    )
    return Redis.from_pool(pool)
