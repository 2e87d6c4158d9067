"""What every long-running process of ours does around its work: event loop, signals, logging, sign of life."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from appliance.config import Config, load
from appliance.parent import Status, StatusPipe, die_with_parent
from appliance.supervisor.programs import CONFIG_VARIABLE, config_from_parent

SIGN_OF_LIFE_S = 5.0
STARTED_S = 3.0
"""By then a process has imported and built what it starts with."""
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "action"}


class Formatter(logging.Formatter):
    """`time level name message key=value …`, or the same as one JSON object a line."""

    def __init__(self, *, json: bool) -> None:
        super().__init__()
        self._json = json

    def format(self, record: logging.LogRecord) -> str:
        extra = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        if self._json:
            line = {"ts": stamp, "level": record.levelname.lower(), "logger": record.name, "message": text, **extra}
            return msgspec.json.encode(line, enc_hook=str).decode()
        pairs = "".join(f" {key}={value}" for key, value in extra.items())
        return f"{stamp} {record.levelname.lower():7} {record.name} {text}{pairs}"


def setup_logging(config: Config) -> None:
    """Log to standard error, which the supervisor has pointed at the process's file."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(json=config.logging.format == "json"))
    logging.basicConfig(level=config.logging.level.upper(), handlers=[handler], force=True)


def settings_of_this_process() -> Config:
    """The supervisor's configuration, or the one found on disk when started by hand."""
    handed_over = os.environ.pop(CONFIG_VARIABLE, None)
    return load(None, os.environ) if handed_over is None else config_from_parent(handed_over)


def run_service(serve: Callable[[Config, StatusPipe, asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run `serve(config, status, stopping)` until it returns; SIGTERM sets `stopping`. Exits 1 when it fails.

    SIGINT is ignored: Ctrl-C in a terminal reaches the supervisor, which ends its children in order.
    """
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    config = settings_of_this_process()
    setup_logging(config)
    status = StatusPipe()
    give_memory_back()

    async def main() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stopping.set)
        loop.call_later(STARTED_S, _started)
        await serve(config, status, stopping)

    try:
        uvloop.run(main())
    except Exception:
        logging.getLogger(__name__).exception("the process ends because of an error")
        sys.exit(1)


def give_memory_back() -> None:
    """Return to the system what starting has used and freed: 3 to 20 MiB of an idle process. Only glibc can."""
    gc.collect()
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _started() -> None:
    """What a process has built by now stays: looking through it for garbage again and again stops everything else in
    it (in web for 45 ms, every few hundred requests)."""
    give_memory_back()
    gc.freeze()


async def until_stopped(work: Awaitable[None], stopping: asyncio.Event, status: StatusPipe) -> None:
    """Run `work` until it fails or `stopping` is set, giving a sign of life to the parent meanwhile."""
    working = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(stopping.wait())
    alive = asyncio.ensure_future(_signs_of_life(status))
    try:
        await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
    finally:
        for task in (working, waiting, alive):
            task.cancel()
        await asyncio.gather(working, waiting, alive, return_exceptions=True)


@contextlib.asynccontextmanager
async def signs_of_life(status: StatusPipe) -> AsyncIterator[None]:
    """Tells the parent all the while that this process is well: for what takes long before it is ready."""
    alive = asyncio.ensure_future(_signs_of_life(status))
    try:
        yield
    finally:
        alive.cancel()
        await asyncio.gather(alive, return_exceptions=True)


async def _signs_of_life(status: StatusPipe) -> None:
    while True:
        status.send(Status())
        await asyncio.sleep(SIGN_OF_LIFE_S)


def run_dir(config: Config) -> Path:
    """Where locks and the bus's address lie."""
    return config.data_dir / "run"
