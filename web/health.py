"""`/healthz`: the process answers. `/readyz`: so does everything it needs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from litestar import Response, get
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from appliance.errors import SourceUnavailable
from appliance.sqlite import sqlite3
from bus.errors import BusError
from web.services import Given

ANSWER_S = 2.0


class Health(Struct, frozen=True, kw_only=True):
    """What is well. A reason in words for each part that is not, null for each that is."""

    status: str
    """`ok` or `unready`."""
    parts: dict[str, str | None]


@get("/healthz", opt={"role": "public"}, tags=["health"], summary="Is the process alive?", sync_to_thread=False)
def healthz() -> Health:
    """Answers as long as the process does."""
    return Health(status="ok", parts={})


@get("/readyz", opt={"role": "public"}, tags=["health"], summary="Can it do its work?")
async def readyz(services: Given) -> Response[Health]:
    """Answers 503 when the event bus or a database does not answer, and says which."""
    bus, store, accounts = await asyncio.gather(
        _reason(services.bus.stream_state()), _reason(services.readers.position()), _reason(services.door.claimed())
    )
    parts = {"bus": bus, "store": store, "accounts": accounts}
    well = not any(parts.values())
    return Response(Health(status="ok" if well else "unready", parts=parts), status_code=200 if well else 503)


async def _reason(question: Awaitable[object]) -> str | None:
    try:
        async with asyncio.timeout(ANSWER_S):
            await question
    except TimeoutError:
        return f"no answer within {ANSWER_S:g} s"
    except (BusError, SourceUnavailable, sqlite3.Error) as error:
        return str(error)
    return None


HANDLERS: list[ControllerRouterHandler] = [healthz, readyz]
