"""From the configuration to a cache: which kind, where, and who hears when it is away."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.breaker import Breaker
from appliance.cache.memory import MemoryCache
from appliance.cache.port import Cache, NoCache
from appliance.cache.redis import RedisCache

if TYPE_CHECKING:
    from appliance.config import Config

log = logging.getLogger(__name__)
MAX_SOCKET_PATH_BYTES = 107
"""unix(7): `sun_path` has 108 bytes with its closing zero."""


def cache_socket(data_dir: Path) -> Path:
    """The unix socket of the supervised cache server."""
    return (data_dir / "redis" / "cache.sock").absolute()


def own_server(data_dir: Path) -> str | None:
    """The program for a cache server of our own; None when none is installed or its socket's path would be too long."""
    if len(os.fsencode(cache_socket(data_dir))) > MAX_SOCKET_PATH_BYTES:
        return None
    return shutil.which("redis-server") or shutil.which("valkey-server")


async def make_cache(
    config: Config,
    *,
    on_degraded: Callable[[str], None] | None = None,
    on_restored: Callable[[float], None] | None = None,
) -> Cache:
    """The cache that `cache.url` asks for, to be entered with `async with`.

    `auto` without a server on this machine is `off`. `on_degraded(reason)` and `on_restored(down_s)` are called once
    each time the breaker opens and closes; they must return at once. Every process that has a cache has a breaker:
    one owner (the dispatcher) turns its own into the events `cache:degraded` and `cache:restored`.
    """
    settings = config.cache
    url = settings.url
    if url == "memory":
        return MemoryCache()
    if url == "auto":
        url = await asyncio.to_thread(_own_url, config.data_dir)
    if url == "off":
        return NoCache()

    def degraded(reason: str) -> None:
        log.warning("the cache is away: everything is computed", extra={"reason": reason})
        if on_degraded is not None:
            on_degraded(reason)

    def restored(down_s: float) -> None:
        log.info("the cache is back", extra={"down_s": round(down_s, 3)})
        if on_restored is not None:
            on_restored(down_s)

    breaker = Breaker(settings.failure_threshold, settings.recovery_timeout_s, on_open=degraded, on_close=restored)
    return RedisCache(url, breaker, prefix=settings.prefix, timeout_s=settings.timeout_s)


def _own_url(data_dir: Path) -> str:
    socket = cache_socket(data_dir)
    return f"unix://{socket}" if own_server(data_dir) or socket.exists() else "off"
