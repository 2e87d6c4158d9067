"""`/api/admin/events` and `/api/admin/audit`: the facts as they were stored, a page at a time."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.params import QueryParameter
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from appliance.services.history import Fact, facts
from web.auth.routes import AnyRequest
from web.problems import Problem
from web.services import Given

AUDIT = "user:action"

MAX_SEQ = 2**53
"""Past what any stream reaches, and the largest number that every client can write."""
After = Annotated[
    int | None,
    QueryParameter(
        description="Only events after this one, oldest first. Without: the last ones, newest first.", ge=0, le=MAX_SEQ
    ),
]
Before = Annotated[
    int | None, QueryParameter(description="Only events before this one, newest first.", ge=0, le=MAX_SEQ)
]
Limit = Annotated[int, QueryParameter(description="Most events to answer with.", ge=1, le=500)]


class EventPage(Struct, frozen=True, kw_only=True):
    """Facts with their places in the stream."""

    events: list[Fact]
    next: int | None
    """`after` (with `after`) or else `before` of the next page; null: this is the last."""


@get("/api/admin/events", opt={"role": "operator"}, tags=["events"], summary="The history of all events")
async def events(
    request: AnyRequest,
    services: Given,
    after: After = None,
    before: Before = None,
    type_: Annotated[
        str | None,
        QueryParameter(
            name="type", description="Only these types, separated by commas: `job:failed,clip:failed`.", max_length=1000
        ),
    ] = None,
    job: Annotated[
        str | None, QueryParameter(description="Only this job's.", pattern=r"^[0-9a-z]{26}$", max_length=26)
    ] = None,
    limit: Limit = 100,
) -> EventPage:
    """From the database's full copy of the facts. What people did (`user:action`) is told to administrators only."""
    assert request.user is not None
    types = [name for name in (type_ or "").split(",") if name]
    if len(types) > 50:
        raise Problem(400, "too-many-types", "at most 50 types at once")
    without = None if request.user.role == "admin" else AUDIT
    return await _page(services, after, before, types, job, limit, without=without)


@get("/api/admin/audit", opt={"role": "admin"}, tags=["events"], summary="Who did what, from where")
async def audit(services: Given, after: After = None, before: Before = None, limit: Limit = 100) -> EventPage:
    """Every change that a person or program made: the `user:action` events."""
    return await _page(services, after, before, [AUDIT], None, limit)


async def _page(
    services: Given,
    after: int | None,
    before: int | None,
    types: list[str],
    job: str | None,
    limit: int,
    *,
    without: str | None = None,
) -> EventPage:
    found = await services.readers.run(
        lambda db: facts(db, after=after, before=before, types=types, job=job, without=without, limit=limit + 1)
    )
    page = found[:limit]
    return EventPage(events=page, next=page[-1].seq if len(found) > limit else None)


HANDLERS: list[ControllerRouterHandler] = [events, audit]
