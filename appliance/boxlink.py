"""Reaching the box of a configuration: the running one, or an embedded one for the length of a command."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from appliance.config import Config, config_digest
from appliance.errors import BoxAlreadyRunning, BoxNotRunning
from appliance.supervisor.lock import box_pid
from bus.connection import Bus, BusSettings
from bus.roles import Role
from bus.server import credentials
from stages.folder import publish

CONNECT_TIMEOUT_S = 5.0


class BoxFile(Struct, frozen=True, kw_only=True):
    """`run/box.json`: what the running box was started with."""

    pid: int
    config_digest: str


def box_file(data_dir: Path) -> Path:
    return data_dir / "run" / "box.json"


def write_box_file(config: Config) -> None:
    """Say with which configuration this process runs the box."""
    found = BoxFile(pid=os.getpid(), config_digest=config_digest(config))
    with publish(box_file(config.data_dir)) as part:
        part.write_bytes(msgspec.json.encode(found))


async def connect(config: Config, role: Role = "cli") -> Bus:
    """A connection to the running box. Raises `BoxNotRunning` when there is none."""
    return await Bus.connect(await asyncio.to_thread(_settings, config, role), timeout_s=CONNECT_TIMEOUT_S)


def _settings(config: Config, role: Role) -> BusSettings:
    if box_pid(config.data_dir) is None:
        raise BoxNotRunning(f"no box runs on {config.data_dir}: start one with `appliance up`")
    return credentials(config.data_dir, role)


@dataclass(frozen=True)
class Link:
    """A connected bus, and whether the box behind it is our own."""

    bus: Bus
    embedded: bool


@asynccontextmanager
async def running_or_embedded(config: Config) -> AsyncIterator[Link]:
    """The running box of this configuration; without one, an embedded box that ends with the block.

    Raises `BoxAlreadyRunning` when a box with another configuration holds the data folder.
    """
    if box_pid(config.data_dir) is not None:
        _check_same_configuration(config)
        async with await connect(config) as bus:
            yield Link(bus, embedded=False)
        return
    from appliance.supervisor.box import Box

    # A box for one command takes no work that was not asked for, and shows no pages.
    quiet = replace(config, input=replace(config.input, enabled=False), web=replace(config.web, enabled=False))
    box = Box(quiet, port=-1)
    await box.start()
    write_box_file(config)
    try:
        async with await connect(config) as bus:
            yield Link(bus, embedded=True)
    finally:
        await box.stop()


def _check_same_configuration(config: Config) -> None:
    path = box_file(config.data_dir)
    try:
        running = msgspec.json.decode(path.read_bytes(), type=BoxFile)
    except (FileNotFoundError, msgspec.DecodeError):
        return
    if running.config_digest != config_digest(config):
        raise BoxAlreadyRunning(
            f"the box on {config.data_dir} (process {running.pid}) runs with another configuration: "
            "give the same one with -c, or end it with `appliance down`"
        )
