"""The application: handlers, who may call them, and what every answer has in common."""

from __future__ import annotations

from collections.abc import Sequence

from litestar import Litestar
from litestar.datastructures import MutableScopeHeaders, State
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, ControllerRouterHandler, Message, Scope

from web.auth.guard import Guard
from web.compact import Compact
from web.edge import Edge
from web.problems import answer
from web.routes import HANDLERS
from web.schema import openapi_config
from web.services import Services
from web.strict import strictly


def create_app(services: Services, more: Sequence[ControllerRouterHandler] = ()) -> ASGIApp:
    """The ASGI application over opened services. Its lifespan does nothing: who opened the services closes them.

    `more`: further handlers, under the same rules.
    """
    return Edge(Compact(create_litestar(services, more)), services.config.web, services.metrics)


def create_litestar(services: Services, more: Sequence[ControllerRouterHandler] = ()) -> Litestar:
    """The application without its outermost layer, for those who look at its routes."""
    return Litestar(
        route_handlers=[*HANDLERS, *more],
        dependencies={"services": Provide(lambda: services, sync_to_thread=False)},
        state=State({"services": services}),
        middleware=[Guard()],
        before_request=strictly,
        before_send=[tell_methods],
        exception_handlers={Exception: answer},
        request_max_body_size=services.config.web.max_body_bytes,
        logging_config=None,
        openapi_config=openapi_config(),
        debug=False,
    )


async def tell_methods(message: Message, scope: Scope) -> None:
    """Litestar's own answer to OPTIONS names the methods of a path's first handler only; here are all of them."""
    if message["type"] != "http.response.start" or scope["type"] != ScopeType.HTTP or scope["method"] != "OPTIONS":
        return
    headers = MutableScopeHeaders.from_message(message)
    if "allow" in headers:
        routes = [route for route in scope["litestar_app"].routes if isinstance(route, HTTPRoute)]
        headers["allow"] = ", ".join(sorted(next(r.methods for r in routes if r.path_format == scope["path_template"])))
