"""What stands before every handler: what was asked is of the form that the API's description names.

Litestar reads JSON as leniently as query strings: it would take "3" for 3, 1 for true and 0 for the year 1970. Of a
query parameter that is given twice it takes one.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request

from web.problems import Problem

MAX_SHOWN_CHARS = 40


async def strictly(request: Request[Any, Any, Any]) -> None:
    """Raises `Problem` 400 for a repeated query parameter, and for a body that only a lenient reader takes. What none
    takes is refused by Litestar, field by field."""
    if request.scope["query_string"]:
        _once(request)
    field = request.route_handler.parsed_fn_signature.parameters.get("data")
    if field is None:
        return
    body = await request.body()
    try:
        msgspec.json.decode(body, type=field.annotation)
    except msgspec.ValidationError as error:
        try:
            msgspec.json.decode(body, type=field.annotation, strict=False)
        except msgspec.ValidationError:
            return
        raise Problem(400, "bad-request", str(error)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return


def _once(request: Request[Any, Any, Any]) -> None:
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name in seen:
            raise Problem(400, "bad-request", f"the parameter {name[:MAX_SHOWN_CHARS]!r} is given more than once")
        seen.add(name)
