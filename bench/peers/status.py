"""The peer's status document: `GET /api/admin/ssot`, cache first, as its design had it.

`/api/admin/ssot` is written as the guides of FastAPI and Redis write a cached endpoint: JSON out of Redis into a dict,
the dict returned. `/api/admin/ssot/bytes` is what somebody makes of it who has seen a profile: the cached bytes are the
answer. Both ask for a bearer token.
"""

from __future__ import annotations

import hmac
import json
import os
from functools import cache
from typing import Annotated, Any

import redis.asyncio
from fastapi import APIRouter, Depends, HTTPException, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from bench.peers.place import KEY, socket

router = APIRouter()
TOKEN_VARIABLE = "PEER_TOKEN"
DOCUMENT = f"{KEY}document"
_bearer = HTTPBearer()


@cache
def client() -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(f"unix://{socket()}")


def known(shown: Annotated[HTTPAuthorizationCredentials, Depends(_bearer)]) -> str:
    """The token, when it is the right one."""
    if not hmac.compare_digest(shown.credentials.encode(), os.environ[TOKEN_VARIABLE].encode()):
        raise HTTPException(401, "unknown token")
    return shown.credentials


@router.get("/api/admin/ssot")
async def document(token: Annotated[str, Depends(known)]) -> dict[str, Any]:
    cached = await client().get(DOCUMENT)
    if cached is None:
        raise HTTPException(503, "not in the cache")
    found: dict[str, Any] = json.loads(cached)
    return found


@router.get("/api/admin/ssot/bytes")
async def document_bytes(token: Annotated[str, Depends(known)]) -> Response:
    cached = await client().get(DOCUMENT)
    if cached is None:
        raise HTTPException(503, "not in the cache")
    return Response(cached, media_type="application/json", headers={"X-Cache": "hit"})
