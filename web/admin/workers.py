"""`/api/admin/workers`: who works on what."""

from __future__ import annotations

import msgspec
from litestar import get
from litestar.types import ControllerRouterHandler

from appliance.errors import SourceUnavailable
from appliance.services.workers import Workers
from web.services import Given


@get("/api/admin/workers", opt={"role": "operator"}, tags=["workers"], summary="The workers, by stage")
async def workers(services: Given) -> Workers:
    """Those that report, and the last ones to go."""
    found = await services.ssot.read_section("agents_workers")
    told = msgspec.json.decode(found.body, type=Workers | None)
    if told is None:
        raise SourceUnavailable("the event bus does not answer, so nobody knows which workers there are")
    return told


HANDLERS: list[ControllerRouterHandler] = [workers]
