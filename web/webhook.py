"""`POST /api/alerts/webhook`: alerts of another system, in the form that Prometheus Alertmanager sends (version 4).

Each becomes an alert of the box, `ext-<name>-<fingerprint>`. Alertmanager repeats itself: what is known already is not
said again.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Annotated, Literal

from litestar import post
from litestar.params import JSONBody
from litestar.types import ControllerRouterHandler
from msgspec import Meta, Struct

from bus.commit import Expect
from bus.errors import Stale, UndecodableEvent
from bus.events import AlertCleared, AlertRaised, AnyEvent
from bus.stored import Stored
from web.auth.routes import AnyRequest, remote_of
from web.services import Given, Services

MAX_ALERTS = 200
MAX_TEXT_CHARS = 1000
SOURCE = "webhook"
Severity = Literal["info", "warning", "critical"]
_SEVERITIES: dict[str, Severity] = {
    "info": "info",
    "information": "info",
    "none": "info",
    "low": "info",
    "warning": "warning",
    "warn": "warning",
    "medium": "warning",
    "critical": "critical",
    "error": "critical",
    "high": "critical",
    "page": "critical",
    "emergency": "critical",
}
_DEVICE_LABELS = ("device", "instance", "host", "node", "pod", "job")
Labels = Annotated[dict[str, str], Meta(max_length=100)]


class External(Struct, frozen=True, kw_only=True):
    """One alert as Alertmanager tells it; fields that are not listed are not used."""

    status: Annotated[Literal["firing", "resolved"], Meta(examples=["firing"])]
    labels: Annotated[Labels, Meta(examples=[{"alertname": "DiskFull", "severity": "critical"}])]
    annotations: Labels = {}
    startsAt: Annotated[datetime, Meta(tz=True)] | None = None
    fingerprint: Annotated[str, Meta(max_length=128)] = ""


class Notification(Struct, frozen=True, kw_only=True):
    """What Alertmanager posts."""

    alerts: Annotated[list[External], Meta(max_length=MAX_ALERTS)]
    version: str = "4"


class Taken(Struct, frozen=True, kw_only=True):
    raised: int
    cleared: int
    known: int
    """Alerts of which nothing new was said."""


@post(
    "/api/alerts/webhook",
    opt={"role": "operator"},
    status_code=200,
    tags=["alerts"],
    summary="Alerts of another system",
)
async def webhook(data: JSONBody[Notification], request: AnyRequest, services: Given) -> Taken:
    """Give Alertmanager an API token of role operator: `http_config: {authorization: {credentials: TOKEN}}`."""
    assert request.user is not None
    raised = cleared = 0
    for external in data.alerts:
        said = await _say(services, external)
        raised += said == "raised"
        cleared += said == "cleared"
    if raised or cleared:
        await services.audit(request.user.user, "alerts.webhook", f"{raised} raised", remote_of(request))
    return Taken(raised=raised, cleared=cleared, known=len(data.alerts) - raised - cleared)


async def _say(services: Services, external: External) -> Literal["raised", "cleared"] | None:
    """Publishes what is new about the alert; whoever else says the same at the same time wins."""
    alert = alert_id(external)
    while True:
        stored = await services.bus.last_facts(f"evt.alert.*.{alert}")
        last = _event(stored[-1]) if stored else None
        fact = _fact(external, alert)
        if isinstance(fact, AlertCleared):
            if not isinstance(last, AlertRaised):
                return None
        elif isinstance(last, AlertRaised) and (last.severity, last.message) == (fact.severity, fact.message):
            return None
        try:
            await services.bus.commit([fact], Expect(f"evt.alert.*.{alert}", stored[-1].seq if stored else 0))
        except Stale:
            continue
        return "cleared" if isinstance(fact, AlertCleared) else "raised"


def _event(stored: Stored) -> AnyEvent | None:
    try:
        return stored.event
    except UndecodableEvent:
        return None


def alert_id(external: External) -> str:
    """Stable for one set of labels; letters, digits and `-`."""
    name = re.sub(r"[^a-z0-9]+", "-", external.labels.get("alertname", "alert").lower()).strip("-")[:60] or "alert"
    told = external.fingerprint or repr(sorted(external.labels.items()))
    return f"ext-{name}-{hashlib.sha256(told.encode()).hexdigest()[:10]}"


def _fact(external: External, alert: str) -> AlertRaised | AlertCleared:
    labels, notes = external.labels, external.annotations
    name = _text(labels.get("alertname", "alert"), 200)
    device = next((_text(labels[label], 200) for label in _DEVICE_LABELS if labels.get(label)), None)
    severity = _SEVERITIES.get(labels.get("severity", "").lower(), "warning")
    said = notes.get("summary") or notes.get("description") or notes.get("message") or name
    message = _text(said if device is None else f"{said} ({device})", MAX_TEXT_CHARS)
    rule = f"external.{name}"
    if external.status == "resolved":
        return AlertCleared(
            source=SOURCE, alert=alert, message=_text(f"Over: {message}", MAX_TEXT_CHARS), rule=rule, device=device,
            severity=severity,
        )  # fmt: skip
    return AlertRaised(
        source=SOURCE,
        alert=alert,
        severity=severity,
        message=message,
        rule=rule,
        device=device,
        since=external.startsAt,
    )


def _text(text: str, limit: int) -> str:
    """Words of others: no control characters, bounded, valid UTF-8."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return clean.encode("utf-8", "replace").decode()[:limit].strip() or "-"


HANDLERS: list[ControllerRouterHandler] = [webhook]
