"""Every route of the application: each part brings a list of handlers."""

from __future__ import annotations

from litestar.types import ControllerRouterHandler

from web import health, metrics, static
from web.auth import accounts
from web.auth import routes as auth
from web.uploads import plain, tus

HANDLERS: list[ControllerRouterHandler] = [
    *health.HANDLERS,
    *auth.HANDLERS,
    *accounts.HANDLERS,
    *tus.HANDLERS,
    *plain.HANDLERS,
    *metrics.HANDLERS,
    *static.HANDLERS,
]
