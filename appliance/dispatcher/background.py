"""Services that live in the dispatcher's process and must never take it down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)
DELAY_S = 1.0
DELAY_MAX_S = 60.0
HEALTHY_AFTER_S = 60.0
"""A service that ran this long starts again without delay growth."""


async def keep_running(name: str, serve: Callable[[], Awaitable[None]], *, delay_s: float = DELAY_S) -> None:
    """Run `serve` for ever: what it raises is logged, and it is started again after `delay_s`, doubling."""
    clock = asyncio.get_running_loop().time
    delay = delay_s
    while True:
        began = clock()
        try:
            await serve()
            log.error("%s ended by itself; it is started again", name, extra={"in_s": delay})
        except Exception:
            log.exception("%s failed; it is started again", name, extra={"in_s": delay})
        if clock() - began >= HEALTHY_AFTER_S:
            delay = delay_s
        await asyncio.sleep(delay)
        delay = min(DELAY_MAX_S, delay * 2)
