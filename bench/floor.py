"""The least that uvicorn costs: `uvicorn bench.floor:app` answers every request with the bytes of the file that
`FLOOR_FILE` names. No framework, no cache, nobody is asked who they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

FILE_VARIABLE = "FLOOR_FILE"
_body = Path(os.environ[FILE_VARIABLE]).read_bytes() if FILE_VARIABLE in os.environ else b""
_headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_body)).encode())]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _headers})
    await send({"type": "http.response.body", "body": _body, "more_body": False})
