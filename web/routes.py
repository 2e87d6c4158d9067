"""Every route of the application: each part brings a list of handlers."""

from __future__ import annotations

from litestar.types import ControllerRouterHandler

from web import health, metrics, schema, ssot, static, webhook
from web.admin import alerts, controls, events, letters, storage, workers
from web.auth import accounts
from web.auth import routes as auth
from web.jobs import clips
from web.jobs import routes as jobs
from web.live import routes as live
from web.uploads import plain, tus

HANDLERS: list[ControllerRouterHandler] = [
    *health.HANDLERS,
    *auth.HANDLERS,
    *accounts.HANDLERS,
    *tus.HANDLERS,
    *plain.HANDLERS,
    *metrics.HANDLERS,
    *live.HANDLERS,
    *ssot.HANDLERS,
    *jobs.HANDLERS,
    *clips.HANDLERS,
    *events.HANDLERS,
    *workers.HANDLERS,
    *alerts.HANDLERS,
    *letters.HANDLERS,
    *controls.HANDLERS,
    *storage.HANDLERS,
    *webhook.HANDLERS,
    *schema.HANDLERS,
    *static.HANDLERS,
]
