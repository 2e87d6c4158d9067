"""Opening the store when the box is started on a full disk."""

from __future__ import annotations

import asyncio
import logging

from appliance.config import Config
from appliance.errors import SourceUnavailable
from appliance.storage.ballast import Ballast
from appliance.storage.volume import measure
from appliance.store.writer import Writer

log = logging.getLogger(__name__)
LEAST_BYTES = 1_000_000
"""With less free than this, room is taken for what is missing. A write-ahead log's index alone takes 32 KiB at once."""


async def open_store(config: Config) -> Writer:
    """The writer of `appliance.db`; on a full disk with the ballast given up for it.

    The storage guard would give it up, but the guard lives with the store. Raises `StoreDamaged`, `SourceUnavailable`.
    """
    path = config.data_dir / "appliance.db"
    try:
        return await Writer.open(path)
    except SourceUnavailable:
        freed_bytes = await asyncio.to_thread(_make_room, config)
        if not freed_bytes:
            raise
        log.warning("no room to open the database: the ballast is given up", extra={"bytes": freed_bytes})
        return await Writer.open(path)


def _make_room(config: Config) -> int:
    if measure(config.data_dir).free_bytes >= LEAST_BYTES:
        return 0
    return Ballast(config.data_dir).drop()
