"""The box's programs: what each is started with. One function a kind, plain data out."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from appliance.cache.opening import cache_socket, own_server
from appliance.cache.redis import COMMANDS
from appliance.config import Config
from appliance.supervisor.child import ChildSpec
from bus.events import StageName
from bus.server import ServerSpec

CONFIG_VARIABLE = "APPLIANCE_RESOLVED_CONFIG"
"""The supervisor's configuration as JSON: its children use exactly the same one, whatever files change meanwhile."""
PREPARE_S = 3600.0
"""In which the dispatcher must have made tables and stream agree: minutes for each million facts, giving signs of life
meanwhile."""
CACHE_MAX_MEMORY = "64mb"
_CACHE_READY_POLL_S = 0.05
_CACHE_START_TIMEOUT_S = 10.0
"""It starts in milliseconds; the box waits no longer for what it can do without."""


def bus_program(server: ServerSpec, ready: Callable[[], Awaitable[None]]) -> ChildSpec:
    return ChildSpec(name="bus", argv=server.argv, env=server.env, reports=False, ready=ready)


def dispatcher_program(config: Config) -> ChildSpec:
    spec = _python(config, "dispatcher", ["-m", "appliance.dispatcher"])
    return replace(spec, prepare_s=PREPARE_S)


def monitor_program(config: Config) -> ChildSpec | None:
    """The hardware monitor; None when `hardware.enabled` is off."""
    return _python(config, "monitor", ["-m", "appliance.monitor"]) if config.hardware.enabled else None


def web_program(config: Config) -> ChildSpec | None:
    """The pages and the API; None when `web.enabled` is off."""
    return _python(config, "web", ["-m", "web"]) if config.web.enabled else None


def worker_program(config: Config, stage: StageName, number: int) -> ChildSpec:
    """Worker `number` of the stage, from 1."""
    return _python(config, f"{stage}-{number}", ["-m", "appliance.worker", stage])


def cache_program(config: Config) -> ChildSpec | None:
    """A redis-server or valkey-server of our own on a unix socket; None when off, external or not to be had here.

    The box starts without it, too, and it is tried again: nothing lives only there.
    """
    if config.cache.url != "auto":
        return None
    binary = own_server(config.data_dir)
    if binary is None:
        return None
    socket = cache_socket(config.data_dir)
    socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def ready() -> None:
        while not await _answers(socket):  # noqa: ASYNC110 - the server tells nobody when its socket is there
            await asyncio.sleep(_CACHE_READY_POLL_S)

    return ChildSpec(
        name="cache",
        argv=cache_arguments(binary, socket, config.cache.prefix),
        reports=False,
        ready=ready,
        start_timeout_s=_CACHE_START_TIMEOUT_S,
        needed=False,
    )


def cache_arguments(binary: str, socket: Path, prefix: str) -> list[str]:
    """The server's command line: no port, no disk, bounded memory, and its only user may do what the cache does.

    That user, who needs no password on a socket that only we can open, has no scripts, no administration and no keys
    but those that start with `prefix`. Redis knows such users since version 6.
    """
    return [
        *(binary, "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700", "--dir", str(socket.parent)),
        *("--save", "", "--appendonly", "no", "--maxmemory", CACHE_MAX_MEMORY, "--maxmemory-policy", "allkeys-lru"),
        *("--user", "default", "reset", "on", "nopass", f"~{prefix}*", *(f"+{name}" for name in COMMANDS)),
    ]


async def _answers(socket: Path) -> bool:
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
        writer.write(b"PING\r\n")
        answer = await reader.readline()
        writer.close()
    except OSError:
        return False
    return answer.startswith(b"+PONG")


def _python(config: Config, name: str, arguments: list[str]) -> ChildSpec:
    settings = config.supervisor
    return ChildSpec(
        name=name,
        argv=[sys.executable, *arguments],
        env={CONFIG_VARIABLE: config_to_child(config), "MALLOC_ARENA_MAX": "2"},
        start_timeout_s=settings.start_timeout_s,
        frozen_after_s=settings.frozen_after_s,
    )


def config_to_child(config: Config) -> str:
    return msgspec.json.encode(config, enc_hook=str).decode()


def config_from_parent(text: str) -> Config:
    """The configuration that a supervisor handed over."""
    return msgspec.json.decode(text, type=Config, dec_hook=lambda kind, value: kind(value))
