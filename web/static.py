"""The pages: the bundle of `web/ui`, read into memory once and served with hashed names.

Nothing is looked up on disk for a request, so no path leads anywhere. Files under `/assets/` carry a hash in their name
and never change; the pages themselves are asked for each time, so an upgrade never mixes versions. Pages hold no data.
To who is logged in the operations page names, in a `Link` header, what its script will ask for first: the browser then
asks while it still reads the script.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from functools import cache
from pathlib import Path
from typing import Any

import brotli
from litestar import Request, Response, get
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler
from msgspec import Struct
from msgspec.structs import replace

from appliance.accounts.roles import allows
from web.compact import best_encoding
from web.media import matches
from web.problems import Problem, not_found

BUNDLE = Path(__file__).parent / "ui" / "dist"
"""What `vite build` made: index.html, admin.html, login.html, claim.html and assets/."""
PAGES = {"/": "index.html", "/admin": "admin.html", "/login": "login.html", "/claim": "claim.html"}
FIRST = "</api/me>; rel=preload; as=fetch; crossorigin, </api/admin/ssot>; rel=preload; as=fetch; crossorigin"
"""What `web/ui/src/admin/main.tsx` asks for first. A path that it does not ask for would be loaded in vain."""
MIN_COMPRESSED_BYTES = 512
_TEXT = ("text/", "application/javascript", "application/json", "image/svg")


class Asset(Struct, frozen=True):
    """One file of the bundle, ready to send."""

    media_type: str
    etag: str
    bodies: dict[str, bytes]
    """By content encoding: identity always, br and gzip where they are smaller."""


@cache
def bundle(folder: Path = BUNDLE) -> dict[str, Asset]:
    """Path below the bundle to file. Blocking; empty when the pages were never built."""
    if not folder.is_dir():
        return {}
    return {str(path.relative_to(folder)): _asset(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _asset(path: Path) -> Asset:
    data = path.read_bytes()
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if path.suffix == ".js":
        media_type = "text/javascript"
    bodies = {"identity": data}
    if len(data) >= MIN_COMPRESSED_BYTES and media_type.startswith(_TEXT):
        packed = {"br": brotli.compress(data), "gzip": gzip.compress(data, 9, mtime=0)}
        bodies |= {name: body for name, body in packed.items() if len(body) < len(data)}
    if media_type.startswith("text/"):
        media_type += "; charset=utf-8"
    return Asset(media_type, f'"{hashlib.blake2b(data, digest_size=8).hexdigest()}"', bodies)


def send(request: Request[Any, Any, Any], asset: Asset, cache_control: str) -> Response[bytes]:
    """The asset in the best encoding that the client takes, or 304 when it has it."""
    best = best_encoding(request.headers.get("accept-encoding", ""), among=asset.bodies)
    encoding = best or "identity"
    headers = {"ETag": asset.etag, "Cache-Control": cache_control, "Vary": "Accept-Encoding"}
    if matches(request.headers.get("if-none-match", ""), asset.etag):
        return Response(b"", status_code=304, headers=headers, media_type=asset.media_type)
    if encoding != "identity":
        headers["Content-Encoding"] = encoding
    return Response(asset.bodies[encoding], headers=headers, media_type=asset.media_type)


@get(list(PAGES), opt={"role": "public"}, include_in_schema=False)
async def page(request: Request[Any, Any, Any]) -> Response[bytes]:
    """A page of the bundle: the same for everybody, but for what it says to load early."""
    name = PAGES[request.scope["path"].rstrip("/") or "/"]
    files = bundle()
    asset = files.get(name) or files.get("index.html")
    if asset is None:
        raise Problem(503, "pages-not-built", "the pages are not built in this copy; the API works")
    if name != "admin.html" or request.user is None or not allows(request.user.role, "operator"):
        return send(request, asset, "no-cache")
    # Another tag: a 304 must not bring back the header of who was logged in before.
    answer = send(request, replace(asset, etag=f'{asset.etag[:-1]}-first"'), "no-cache")
    answer.headers["Link"] = FIRST
    return answer


@get("/assets/{name:path}", opt={"role": "public"}, include_in_schema=False)
async def asset(request: Request[Any, Any, Any], name: FromPath[Path]) -> Response[bytes]:
    """A file of the bundle."""
    found = bundle().get("assets" + str(name))
    if found is None:
        raise not_found("such file")
    return send(request, found, "public, max-age=31536000, immutable")


HANDLERS: list[ControllerRouterHandler] = [page, asset]
