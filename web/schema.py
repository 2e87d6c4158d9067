"""`/schema`: the API described as OpenAPI, and a page of it for people that asks no other host for anything.

The description is made from the handlers; here is only what they share: errors, security, and the parts of tus that are
headers and raw bodies.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Litestar, Request, Response, Router, get
from litestar.enums import MediaType
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Tag
from litestar.routes import HTTPRoute
from litestar.types import ControllerRouterHandler

from appliance import __version__
from web.auth.guard import COOKIE
from web.jobs.clips import KINDS
from web.problems import MEDIA_TYPE
from web.schema_page import STYLE, page

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "An error in the form of RFC 9457.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "examples": ["about:blank"]},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong and what to do, for people."},
        "code": {"type": "string", "description": "The same for programs.", "examples": ["not-found"]},
        "request": {"type": "string", "description": "Finds the request in the log."},
    },
}
_BYTES = {"content": {"application/offset+octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
_FORM = {
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "clips": {"type": "integer", "minimum": 1, "maximum": 50},
                    "length": {
                        "type": "string",
                        "pattern": "^([0-9]{1,3}[.][.][0-9]{1,3})?$",
                        "examples": ["15..60"],
                    },
                    "file": {"type": "string", "format": "binary"},
                },
            }
        }
    }
}


def _header(name: str, example: str, *, required: bool = True, says: str = "") -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": says,
        "schema": {"type": "string"},
        "example": example,
    }


_VERSION = {**_header("Tus-Resumable", "1.0.0"), "schema": {"type": "string", "enum": ["1.0.0"]}}
_NUMBER = {"type": "string", "pattern": "^[0-9]{1,18}$"}
_SUM = {
    **_header("Upload-Checksum", "sha256 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", required=False),
    "schema": {"type": "string", "pattern": "^(sha256 [A-Za-z0-9+/]{43}=|sha1 [A-Za-z0-9+/]{27}=)$"},
}
BY_HAND: dict[tuple[str, str], dict[str, Any]] = {
    ("/api/uploads", "post"): {
        "parameters": [
            _VERSION,
            {**_header("Upload-Length", "1048576", says="Bytes of the whole file."), "schema": _NUMBER},
            _header("Upload-Metadata", "filename dGFsay5tcDQ=,clips Mw==", required=False),
            _SUM,
        ],
        "requestBody": {**_BYTES, "required": False},
    },
    ("/api/uploads/{ident}", "head"): {"parameters": [_VERSION]},
    ("/api/uploads/{ident}", "patch"): {
        "parameters": [
            _VERSION,
            {**_header("Upload-Offset", "0", says="The upload's own offset."), "schema": _NUMBER},
            _SUM,
        ],
        "requestBody": {**_BYTES, "required": True},
    },
    ("/api/uploads/{ident}", "post"): {
        "parameters": [
            _VERSION,
            {
                **_header("X-HTTP-Method-Override", "PATCH", says="The method that is meant; the rest is as for it."),
                "schema": {"type": "string", "enum": ["PATCH", "HEAD", "DELETE"]},
            },
        ],
        "requestBody": {**_BYTES, "required": False},
        "responses": {"200": {"description": "As for HEAD."}},
    },
    ("/api/uploads/file", "post"): {"requestBody": {**_FORM, "required": True}},
    ("/api/clips/{job}/{clip}/{kind}", "get"): {
        "responses": {
            status: {
                "description": description,
                "content": {
                    media_type.partition(";")[0]: {"schema": {"type": "string", "format": "binary"}}
                    for _, media_type in KINDS.values()
                },
            }
            for status, description in (("200", "The file."), ("206", "A part of it."))
        }
    },
    ("/metrics", "get"): {
        "responses": {
            "200": {
                "description": "All series.",
                "content": {
                    media_type: {"schema": {"type": "string"}}
                    for media_type in ("text/plain", "application/openmetrics-text")
                },
            }
        }
    },
}
"""What a handler reads by itself, by path and method."""
PARTS: dict[str, dict[str, Any]] = {
    "ident": {"type": "string", "pattern": "^[0-9a-z]{26}$"},
    "kind": {"type": "string", "enum": list(KINDS)},
}
"""Parts of paths that handlers take as any text, to say that there is no such thing."""


class Described(OpenAPIRenderPlugin):
    """`/schema/openapi.json`."""

    def __init__(self) -> None:
        super().__init__(path="/openapi.json", media_type=MediaType.JSON)
        self._bytes: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        if self._bytes is None:
            self._bytes = msgspec.json.encode(completed(openapi_schema, roles_of(request.app)))
        return self._bytes


class ForPeople(OpenAPIRenderPlugin):
    """`/schema`."""

    def __init__(self) -> None:
        super().__init__(path="/", media_type=MediaType.HTML)
        self._bytes: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        if self._bytes is None:
            self._bytes = page(completed(openapi_schema, roles_of(request.app))).encode()
        return self._bytes


def roles_of(app: Litestar) -> dict[tuple[str, str], str]:
    """Who may call what, by path and method, as the handlers say."""
    return {
        (route.path_format, str(method).lower()): handler.opt.get("role", "admin")
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method, (handler, _) in route.route_handler_map.items()
    }


def completed(schema: dict[str, Any], roles: dict[tuple[str, str], str]) -> dict[str, Any]:
    """The description with what all operations share. `schema` is changed; doing it twice changes nothing."""
    schema.setdefault("components", {}).setdefault("schemas", {})["Problem"] = PROBLEM
    error = {
        "description": "An error.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for path, operations in schema["paths"].items():
        for method in METHODS:
            if (operation := operations.get(method)) is None:
                continue
            operation["responses"].pop("400", None)  # described as no problem document
            for status, response in operation["responses"].items():
                if method == "head" or status in ("204", "304"):
                    response.pop("content", None)
            operation["responses"]["default"] = error
            role = roles.get((path, method), "admin")
            operation["x-role"] = role
            if role == "public":
                operation["security"] = []
            by_hand = BY_HAND.get((path, method), {})
            if "responses" in by_hand:
                operation["responses"] |= by_hand["responses"]
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path" and parameter["name"] in PARTS:
                    parameter["schema"] = PARTS[parameter["name"]]
            known = {(p.get("name"), p.get("in")) for p in operation.get("parameters", [])}
            extra = [p for p in by_hand.get("parameters", []) if (p["name"], "header") not in known]
            operation["parameters"] = [*operation.get("parameters", []), *extra]
            if "requestBody" in by_hand:
                operation["requestBody"] = by_hand["requestBody"]
    return schema


@get("/schema/style.css", opt={"role": "viewer"}, include_in_schema=False, sync_to_thread=False)
def style() -> Response[str]:
    """The page's looks."""
    return Response(STYLE, media_type="text/css", headers={"Cache-Control": "private, max-age=3600"})


def openapi_config() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="AgentOS Appliance",
        version=__version__,
        description="Turns long videos into short, captioned, vertical clips. Errors are RFC 9457 problem documents.",
        use_handler_docstrings=True,
        components=Components(
            security_schemes={
                "token": SecurityScheme(type="http", scheme="bearer", description="`appliance token add NAME`."),
                "session": SecurityScheme(
                    type="apiKey",
                    name=COOKIE,
                    security_scheme_in="cookie",
                    description="Made by POST /api/login; changes need the header X-CSRF-Token.",
                ),
            }
        ),
        security=[{"token": []}, {"session": []}],
        tags=[
            Tag(name="session", description="Logging in and out."),
            Tag(name="uploads", description="Videos in: tus 1.0, or one form."),
            Tag(name="accounts", description="Users and API tokens."),
            Tag(name="health", description="Is the box well?"),
        ],
        render_plugins=[ForPeople(), Described()],
        openapi_router=Router("/schema", route_handlers=[], opt={"role": "viewer"}, include_in_schema=False),
    )


HANDLERS: list[ControllerRouterHandler] = [style]
