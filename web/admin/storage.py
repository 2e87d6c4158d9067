"""`/api/admin/storage`: what uses how much of the disk."""

from __future__ import annotations

import asyncio

from litestar import get
from litestar.types import ControllerRouterHandler

from appliance.storage.report import StorageReport, report
from web.services import Given


@get("/api/admin/storage", opt={"role": "operator"}, tags=["storage"], summary="What uses how much of the disk")
async def storage(services: Given) -> StorageReport:
    """Measured now: what is free, promised to open jobs and kept in reserve, by kind, and the largest jobs."""
    return await asyncio.to_thread(report, services.config)


HANDLERS: list[ControllerRouterHandler] = [storage]
