"""A file of the pages: how it is packed, and when it is not sent again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from litestar import Request, Response

from web.static import Asset, send

ASSET = Asset("text/css", '"tag"', {"identity": b"plain", "gzip": b"small"})


def sent(**headers: str) -> Response[bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return send(cast("Request[Any, Any, Any]", SimpleNamespace(headers=named)), ASSET, "no-cache")


@pytest.mark.parametrize(
    ("accepted", "body"),
    [("", b"plain"), ("br", b"plain"), ("br, GZIP", b"small"), ("gzip;q=0.0", b"plain"), ("gzip;q=0.5", b"small")],
)
def test_it_is_packed_as_the_client_takes_it(accepted: str, body: bytes) -> None:
    assert sent(accept_encoding=accepted).content == body


@pytest.mark.parametrize("known", ['"tag"', 'W/"tag"', '"other", "tag"', "*"])
def test_who_has_it_gets_no_second_copy(known: str) -> None:
    assert sent(if_none_match=known).status_code == 304
    assert sent(if_none_match='"other"').content == b"plain"
