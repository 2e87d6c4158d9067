"""Compression and validators, on an application that is nothing but its answer."""

from __future__ import annotations

import gzip
import threading
from typing import Any

import brotli
import pytest

from web.compact import MIN_BYTES, Compact, best_encoding

BODY = b'{"a": "' + b"x" * 5000 + b'"}'


class Answer:
    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""


async def ask(
    body: bytes = BODY,
    *,
    media_type: str = "application/json",
    status: int = 200,
    method: str = "GET",
    pieces: int = 1,
    more: dict[str, str] | None = None,
    **asked: str,
) -> Answer:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = {"content-type": media_type, "content-length": str(len(body)), **(more or {})}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        size = -(-len(body) // pieces) or 1
        for number in range(pieces):
            part = body[number * size : (number + 1) * size]
            await send({"type": "http.response.body", "body": part, "more_body": number < pieces - 1})

    got = Answer()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            got.status = message["status"]
            got.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            got.body += message["body"]

    headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in asked.items()]
    await Compact(app)({"type": "http", "method": method, "headers": headers}, None, send)  # type: ignore
    return got


@pytest.mark.parametrize(
    ("accepted", "best"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip", "gzip"),
        ("br;q=0, gzip;q=0.5", "gzip"),
        ("br; q=0", None),
        ("br;q=0.0, gzip", "gzip"),
        ("gzip;q=0", None),
        ("GZIP;q=0.5", "gzip"),
        ("", None),
        ("identity", None),
        ("BR", "br"),
        ("brx, xgzip", None),
    ],
)
def test_the_best_encoding(accepted: str, best: str | None) -> None:
    assert best_encoding(accepted) == best


@pytest.mark.parametrize(("encoding", "unpack"), [("br", brotli.decompress), ("gzip", gzip.decompress)])
async def test_large_text_is_compressed(encoding: str, unpack: Any) -> None:
    got = await ask(accept_encoding=encoding)
    assert got.headers["content-encoding"] == encoding
    assert got.headers["vary"] == "Accept-Encoding"
    assert int(got.headers["content-length"]) == len(got.body) < len(BODY)
    assert unpack(got.body) == BODY


async def test_much_text_does_not_hold_up_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    real = gzip.compress

    def compress(data: bytes, level: int) -> bytes:
        threads.append(threading.current_thread())
        return real(data, level)

    monkeypatch.setattr(gzip, "compress", compress)
    much = BODY * 100
    got = await ask(much, accept_encoding="gzip")
    assert gzip.decompress(got.body) == much
    assert int(got.headers["content-length"]) == len(got.body)
    assert threads
    assert threading.main_thread() not in threads


async def test_what_is_not_compressed() -> None:
    for got in (
        await ask(),
        await ask(b"{}" + b" " * (MIN_BYTES - 3), accept_encoding="br"),
        await ask(media_type="video/mp4", accept_encoding="br"),
        await ask(media_type="application/zip", accept_encoding="br"),
        await ask(more={"content-encoding": "br"}, accept_encoding="br"),
        await ask(pieces=3, accept_encoding="br"),
    ):
        assert got.headers.get("content-encoding") in (None, "br")
        assert len(got.body) == int(got.headers["content-length"])


async def test_what_somebody_has_is_not_sent_again() -> None:
    first = await ask()
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    for asked in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        again = await ask(if_none_match=asked)
        assert (again.status, again.body) == (304, b"")
        assert again.headers["etag"] == tag
        assert "content-length" not in again.headers
    assert (await ask(BODY + b" ", if_none_match=tag)).status == 200
    assert (await ask(if_none_match='"other"')).status == 200


async def test_validators_are_for_good_answers_to_get_only() -> None:
    assert "etag" not in (await ask(method="POST")).headers
    assert "etag" not in (await ask(status=404, media_type="application/problem+json")).headers
    assert "etag" not in (await ask(more={"cache-control": "no-store"})).headers
    own = await ask(more={"etag": '"mine"'}, accept_encoding="br")
    assert own.headers["etag"] == 'W/"mine"', "compressed, it is not byte for byte the same"
    assert (await ask(more={"etag": '"mine"'}, if_none_match='"mine"')).status == 304
