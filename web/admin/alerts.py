"""`/api/admin/alerts`: what is wrong, and what people say to it: seen, or silenced for a while."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

from litestar import get, post
from litestar.params import JSONBody, PathParameter
from litestar.types import ControllerRouterHandler
from msgspec import Meta, Struct

from appliance.alerts import orders
from appliance.services.alerts import AlertItem
from appliance.services.alerts import alerts as alerts_of
from bus.events import AlertRaised
from web.auth.routes import AnyRequest, remote_of
from web.problems import Problem
from web.services import Given, Services

AlertId = Annotated[str, PathParameter(pattern=r"^[a-z0-9_-]{1,128}$", description="Id of an alert (or silence).")]


class Silence(Struct, frozen=True, kw_only=True):
    """Alerts that tell nobody for a while; they are still raised, stored and shown."""

    id: str
    rule: str
    """A rule's id, `*` and `?` are wildcards."""
    device: str
    until: datetime
    author: str
    reason: str


class Seen(Struct, frozen=True, kw_only=True):
    """Somebody has seen an alert."""

    alert: str
    at: datetime
    author: str
    note: str


class AlertList(Struct, frozen=True, kw_only=True):
    raised: list[AlertItem]
    """The most severe first, then the longest-standing."""
    cleared: list[AlertItem]
    """The last to be cleared first."""
    silences: list[Silence]
    seen: list[Seen]


class Note(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    note: Annotated[str, Meta(max_length=500, description="What is known or done about it.")] = ""


class NewSilence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    for_s: Annotated[
        float, Meta(gt=0, le=orders.MAX_SILENCE_S, description="Seconds for which nobody is told.", examples=[28800])
    ]
    reason: Annotated[
        str, Meta(min_length=1, max_length=500, description="Why, for who comes later.", examples=["fan is changed"])
    ]


@get("/api/admin/alerts", opt={"role": "operator"}, tags=["alerts"], summary="Alerts, silences and who has seen what")
async def alerts(services: Given) -> AlertList:
    """Raised ones and those that were cleared lately."""
    return await _list(services)


@post("/api/admin/alerts/{alert:str}/ack", opt={"role": "operator"}, status_code=200, tags=["alerts"], summary="Seen")
async def ack(data: JSONBody[Note], request: AnyRequest, services: Given, alert: AlertId) -> AlertList:
    """No more reminders; what has happened once and is not a state is cleared by it."""
    assert request.user is not None
    await _raised(services, alert)
    user = request.user.user
    await asyncio.to_thread(orders.acknowledge, services.config.data_dir, alert, author=user, note=data.note)
    await services.audit(user, "alert.ack", alert, remote_of(request))
    return await _list(services)


@post(
    "/api/admin/alerts/{alert:str}/silence",
    opt={"role": "operator"},
    status_code=200,
    tags=["alerts"],
    summary="Silence",
)
async def silence(data: JSONBody[NewSilence], request: AnyRequest, services: Given, alert: AlertId) -> AlertList:
    """Nobody is told about this rule on this device for a while."""
    assert request.user is not None
    rule, device = await _rule(services, alert)
    user = request.user.user
    try:
        await asyncio.to_thread(
            orders.silence,
            services.config.data_dir,
            rule,
            device=device,
            for_s=data.for_s,
            author=user,
            reason=data.reason,
        )
    except ValueError as error:
        raise Problem(422, "silence-refused", str(error)) from error
    await services.audit(user, "alert.silence", f"{rule} {device}", remote_of(request))
    return await _list(services)


@post(
    "/api/admin/alerts/{alert:str}/unsilence",
    opt={"role": "operator"},
    status_code=200,
    tags=["alerts"],
    summary="End a silence",
)
async def unsilence(request: AnyRequest, services: Given, alert: AlertId) -> AlertList:
    """`alert`: the id of a silence, or an alert's whose silences all end."""
    assert request.user is not None
    folder = services.config.data_dir
    standing = (await asyncio.to_thread(orders.read, folder)).silences
    ids = [one.id for one in standing if one.id == alert]
    if not ids:
        rule, device = await _rule(services, alert)
        now = services.gate.clock()
        ids = [one.id for one in standing if one.matches(rule, device, now)]
    for ident in ids:
        await asyncio.to_thread(orders.end_silence, folder, ident)
    if ids:
        await services.audit(request.user.user, "alert.unsilence", alert, remote_of(request))
    return await _list(services)


async def _list(services: Services) -> AlertList:
    found = await services.readers.run(lambda db: alerts_of(db, datetime.now(UTC)))
    said = await asyncio.to_thread(orders.read, services.config.data_dir)
    now = services.gate.clock()
    return AlertList(
        raised=found.raised,
        cleared=found.cleared,
        silences=[
            Silence(
                id=one.id,
                rule=one.rule,
                device=one.device,
                until=datetime.fromtimestamp(one.until_s, UTC),
                author=one.author,
                reason=one.reason,
            )
            for one in said.silences
            if one.until_s > now
        ],
        seen=[
            Seen(alert=one.alert, at=datetime.fromtimestamp(one.at_s, UTC), author=one.author, note=one.note)
            for one in said.acks
        ],
    )


async def _raised(services: Services, alert: str) -> AlertRaised:
    """The alert's last word when it is raised. Raises `Problem` 404."""
    said = await services.bus.last_facts(f"evt.alert.*.{alert}")
    event = said[-1].event if said else None
    if not isinstance(event, AlertRaised):
        raise Problem(404, "alert-not-found", f"{alert} is not raised")
    return event


async def _rule(services: Services, alert: str) -> tuple[str, str]:
    """Rule and device of a raised alert. Raises `Problem` 404, 422 for one that no rule made."""
    event = await _raised(services, alert)
    if event.rule is None:
        raise Problem(422, "no-rule", f"{alert} comes from no rule of the monitor, so it cannot be silenced: see it")
    return event.rule, event.device or "*"


HANDLERS: list[ControllerRouterHandler] = [alerts, ack, silence, unsilence]
