"""What stands before every handler with a JSON body: the body is of the types that the API's description names.

Litestar reads bodies as leniently as query strings: it would take "3" for 3, 1 for true and 0 for the year 1970.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request

from web.problems import Problem


async def strictly(request: Request[Any, Any, Any]) -> None:
    """Raises `Problem` 400 for a body that only a lenient reader takes. What none takes is refused by Litestar, field
    by field."""
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
