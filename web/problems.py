"""What goes wrong on the way to an answer, all in one shape: RFC 9457 `application/problem+json`.

    {"type": "about:blank", "title": "Conflict", "status": 409, "detail": "…", "code": "offset-mismatch", …numbers}

`detail` is for people, `code` for programs. Handlers raise `Problem`; errors of the trees below become one as `_KNOWN`
says. Anything else is a mistake of ours: logged with its traceback, answered with 500 and the request's id.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from appliance.errors import (
    AccountRefused,
    AccountUnknown,
    ApplianceError,
    CacheUnavailable,
    IntakeClosed,
    IntakeRefused,
    JobNotFound,
    NoRoom,
    SourceUnavailable,
    StoreDamaged,
)
from appliance.sqlite import sqlite3
from bus.errors import BusError, BusUnavailable, Denied, Stale, StorageRefused

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
_MAX_DETAIL_CHARS = 2000

_KNOWN: tuple[tuple[type[Exception], int, str], ...] = (
    (JobNotFound, 404, "job-not-found"),
    (AccountUnknown, 404, "account-not-found"),
    (AccountRefused, 422, "account-refused"),
    (IntakeClosed, 503, "intake-closed"),
    (NoRoom, 507, "no-room"),
    (IntakeRefused, 422, "intake-refused"),
    (SourceUnavailable, 503, "source-unavailable"),
    (CacheUnavailable, 503, "cache-unavailable"),
    (StoreDamaged, 503, "store-damaged"),
    (Stale, 409, "changed-meanwhile"),
    (StorageRefused, 507, "bus-storage-full"),
    (BusUnavailable, 503, "bus-unavailable"),
    (Denied, 500, "bus-denied"),
    (BusError, 503, "bus-error"),
    (ApplianceError, 500, "appliance-error"),
    (sqlite3.OperationalError, 503, "database-unavailable"),
    (RecursionError, 400, "too-deep"),
    (UnicodeDecodeError, 400, "not-text"),
    (OverflowError, 400, "number-too-large"),
)
_SAID = {
    "number-too-large": "a number is too large",
    "database-unavailable": "the box cannot write to its database at the moment: is the disk full?",
    "too-deep": "the JSON is nested too deeply",
    "not-text": "the body is not UTF-8 text",
}
_CODES = {
    400: "bad-request",
    401: "not-logged-in",
    403: "not-allowed",
    404: "not-found",
    405: "method-not-allowed",
    413: "body-too-large",
    415: "media-type-not-supported",
    429: "too-many-requests",
    503: "unavailable",
}
RETRY_AFTER_S = 2


class Problem(Exception):
    """An answer that is no success. `more` goes into the document beside the standard members."""

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = more

    def document(self) -> bytes:
        return msgspec.json.encode(
            {
                "type": "about:blank",
                "title": title(self.status),
                "status": self.status,
                "detail": self.detail[:_MAX_DETAIL_CHARS],
                "code": self.code,
                **self.more,
            }
        )


def title(status: int) -> str:
    """The status's standard phrase."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return {460: "Checksum Mismatch"}.get(status, "Error")


def not_found(what: str) -> Problem:
    """One answer for what is not there and for what somebody may not know of."""
    return Problem(404, "not-found", f"there is no {what}")


def problem_of(error: Exception) -> Problem:
    """The problem that an error of any tree is. Raises nothing."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        return _of_litestar(error)
    for kind, status, code in _KNOWN:
        if isinstance(error, kind):
            detail = _SAID.get(code) or str(error)
            headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
            return Problem(status, code, detail, headers=headers)
    return Problem(500, "internal-error", "something went wrong in the box: the request's id finds it in web.log")


def _of_litestar(error: HTTPException) -> Problem:
    status = error.status_code
    more: dict[str, Any] = {}
    detail = error.detail or title(status)
    if status == 400 and isinstance(error.extra, list):
        more["errors"] = [
            {"where": str(entry.get("key", "")), "message": str(entry.get("message", ""))}
            for entry in error.extra
            if isinstance(entry, dict)
        ]
        detail = "; ".join(f"{e['where']}: {e['message']}" if e["where"] else e["message"] for e in more["errors"])
    elif status == 404:
        detail = "there is nothing at this address"
    elif status >= 500:
        detail = "something went wrong in the box: the request's id finds it in web.log"
    return Problem(
        status, _CODES.get(status, "error"), detail or title(status), headers=dict(error.headers or {}), **more
    )


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The exception handler of the application."""
    problem = problem_of(error)
    ident = request.scope.get("state", {}).get("request_id")
    if problem.status >= 500 and (problem.status not in (503, 507) or isinstance(error, sqlite3.Error)):
        log.error("a request failed", exc_info=error, extra={"request": ident, "path": request.scope["path"]})
    if ident is not None:
        problem.more.setdefault("request", ident)
    return Response(problem.document(), status_code=problem.status, media_type=MEDIA_TYPE, headers={**problem.headers})
