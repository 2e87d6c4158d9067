"""`GET /api/admin/ssot`: the status document, as bytes from the cache.

Whoever may only view gets the sections that say how the box and its jobs do; the rest is for operators. Compressed
bytes are kept for as long as the document's tag stays the same, at most COMPRESSED_S: what only this process knows
(`cache`, `websocket`, the times) may be that much older in a compressed answer.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import brotli
import msgspec
from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter
from litestar.types import ControllerRouterHandler

from appliance.ssot.cache import KEYS, Snapshot, SsotCache
from appliance.ssot.document import etag as tag
from web.auth.routes import AnyRequest
from web.compact import Coding, best_encoding
from web.media import matches
from web.problems import Problem
from web.services import Given

VIEWER_SECTIONS = ("dashboard", "queue", "jobs", "clips", "analytics")
COMPRESSED_S = 1.0
COMPRESS_FROM_BYTES = 1400
"""Below it an answer fits one packet as it is."""
MAX_COMPRESSED = 32

_encoder = msgspec.json.Encoder()


class Compressed:
    """The last compressed answers, by tag and coding."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, Coding], tuple[float, bytes]] = OrderedDict()

    def get(self, etag: str, coding: Coding, body: bytes) -> bytes:
        key, now = (etag, coding), time.monotonic()
        kept = self._kept.get(key)
        if kept is not None and now - kept[0] < COMPRESSED_S:
            return kept[1]
        small = brotli.compress(body, quality=1) if coding == "br" else gzip.compress(body, compresslevel=1, mtime=0)
        self._kept[key] = (now, bytes(small))
        self._kept.move_to_end(key)
        if len(self._kept) > MAX_COMPRESSED:
            self._kept.popitem(last=False)
        return bytes(small)


_compressed = Compressed()


def chosen(text: str | None, role: str) -> Sequence[str] | None:
    """The sections to answer with, None for the whole document. Raises `Problem` for unknown or forbidden ones."""
    if text is None:
        return VIEWER_SECTIONS if role == "viewer" else None
    names = list(dict.fromkeys(name for name in text.split(",") if name))
    if not names or (unknown := [name for name in names if name not in KEYS]):
        wrong = unknown[0] if names else ""
        raise Problem(400, "unknown-section", f"no section {wrong[:80]!r}: there are {', '.join(sorted(KEYS))}")
    if role == "viewer" and (kept := [name for name in names if name not in VIEWER_SECTIONS]):
        raise Problem(403, "not-allowed", f"{kept[0]} needs the role operator; a viewer has {VIEWER_SECTIONS}")
    return names


async def read(ssot: SsotCache, names: Sequence[str] | None, *, bypass: bool) -> Snapshot:
    """The document, or these sections only, with the least of their positions.

    The tag of these is of their names and contents; it is empty when only this process knows them: those are never the
    same twice.
    """
    if names is None:
        return await ssot.read(bypass=bypass)
    found = await asyncio.gather(*(ssot.read_section(name, bypass=bypass) for name in names))
    placed = [one for one in found if one.position.epoch]
    position = min((one.position for one in placed), default=found[0].position)
    stale = tuple(name for one in found for name in one.stale)
    head = {"epoch": position.epoch, "seq": position.seq, "generated_at": datetime.now(UTC)}
    parts = [_encoder.encode(head)[:-1]]
    parts += [b',"%b":%b' % (name.encode(), one.body) for name, one in zip(names, found, strict=True)]
    parts.append(b',"stale":true}' if stale else b',"stale":false}')
    verdicts = {one.verdict for one in found}
    worst = next(verdict for verdict in ("stale", "miss", "bypass", "hit") if verdict in verdicts)
    told = "".join(f"{name}:{one.etag};" for name, one in zip(names, found, strict=True))
    digest = hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
    return Snapshot(
        body=b"".join(parts),
        verdict=worst,
        etag=tag(digest, stale=bool(stale)) if any(one.etag for one in found) else "",
        position=position,
        age_s=max(one.age_s for one in found),
        stale=stale,
    )


@get(
    "/api/admin/ssot",
    opt={"role": "viewer"},
    tags=["status"],
    summary="Everything the box knows about itself",
    responses={
        200: ResponseSpec(data_container=dict[str, Any], description="The document, or the sections asked for."),
        304: ResponseSpec(data_container=None, description="The sections are as the client's copy has them."),
    },
)
async def document(
    request: AnyRequest,
    services: Given,
    sections: Annotated[
        str | None,
        QueryParameter(description="Only these, separated by commas.", max_length=400),
    ] = None,
) -> Response[bytes]:
    """`Cache-Control: no-cache` computes it whatever the cache holds. `X-Cache` says how it was had."""
    started = time.perf_counter()
    assert request.user is not None
    names = chosen(sections, request.user.role)
    bypass = "no-cache" in request.headers.get("cache-control", "").lower()
    found = await read(services.ssot, names, bypass=bypass)
    read_at = time.perf_counter()
    headers = {
        **({"ETag": found.etag} if found.etag else {}),
        "X-Cache": found.verdict,
        "Cache-Control": "private, no-cache",
        "Vary": "Accept-Encoding, Authorization, Cookie",
    }
    known = request.headers.get("if-none-match")
    if known is not None and found.etag and not bypass and matches(known, found.etag):
        headers["Server-Timing"] = f"ssot;dur={(read_at - started) * 1e3:.2f}"
        return Response(b"", status_code=304, headers=headers)
    body = found.body
    coding = best_encoding(request.headers.get("accept-encoding", "")) if len(body) >= COMPRESS_FROM_BYTES else None
    if coding is not None and found.etag:
        body = _compressed.get(found.etag, coding, body)
        headers["Content-Encoding"] = coding
    encode_ms = (time.perf_counter() - read_at) * 1e3
    headers["Server-Timing"] = f"ssot;dur={(read_at - started) * 1e3:.2f}, encode;dur={encode_ms:.2f}"
    return Response(body, media_type="application/json", headers=headers)


HANDLERS: list[ControllerRouterHandler] = [document]
