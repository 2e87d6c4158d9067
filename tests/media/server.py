"""A local HTTP server that behaves as told: well, badly, or worse."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Site:
    """What the server does, and what it was asked."""

    data: bytes = b""
    etag: str | None = '"v1"'
    last_modified: str | None = None
    content_type: str = "video/mp4"
    ranges: bool = True
    drop_after: int | None = None
    """Bytes of a body after which the connection is cut, once."""
    always_drop_after: int | None = None
    claim_length: int | None = None
    """A Content-Length other than the truth."""
    endless: bool = False
    trickle_s: float = 0.0
    """Pause after each byte."""
    header_trickle_s: float = 0.0
    encoding: str | None = None
    status: int = 200
    redirects: dict[str, str] = field(default_factory=dict)
    pause_after: int | None = None
    """Bytes after which the body stops until `go_on` is set."""
    go_on: threading.Event = field(default_factory=threading.Event)
    paused: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    def url(self, path: str = "/video.mp4") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def ranges_asked(self) -> list[str | None]:
        return [headers.get("range") for _, headers in self.asked]


@contextmanager
def serving(site: Site, host: str = "127.0.0.1") -> Iterator[Site]:
    """Serve `site` on a free port of a loopback address."""

    class Handler(_Handler):
        pass

    Handler.site = site
    server = ThreadingHTTPServer((host, 0), Handler)
    server.daemon_threads = True
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site = self.site
        site.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        try:
            self._answer(site)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _answer(self, site: Site) -> None:
        if self.path in site.redirects:
            self.send_response(302)
            self.send_header("Location", site.redirects[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if site.status != 200:
            self.send_error(site.status)
            return
        if site.header_trickle_s:
            self._trickle_header(site)
            return
        begin, body = 0, site.data
        asked = self.headers.get("Range")
        same = self.headers.get("If-Range") in (None, site.etag, site.last_modified)
        if asked and site.ranges and same:
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
            if begin >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self._headers(site, len(body) - begin)
        self._body(site, body[begin:])

    def _headers(self, site: Site, length: int) -> None:
        named: dict[str, Any] = {
            "ETag": site.etag,
            "Last-Modified": site.last_modified,
            "Content-Type": site.content_type,
        }
        named["Content-Encoding"] = site.encoding
        named["Content-Length"] = None if site.endless else site.claim_length or length
        for name, value in named.items():
            if value is not None:
                self.send_header(name, str(value))
        if site.endless:
            self.send_header("Connection", "close")
        self.end_headers()

    def _body(self, site: Site, body: bytes) -> None:
        limit = site.always_drop_after
        if site.drop_after is not None:
            limit, site.drop_after = site.drop_after, None
        if site.trickle_s:
            for byte in body:
                self.wfile.write(bytes([byte]))
                time.sleep(site.trickle_s)
        elif site.pause_after is not None:
            at, site.pause_after = site.pause_after, None
            self.wfile.write(body[:at])
            self.wfile.flush()
            site.paused.set()
            site.go_on.wait(60)
            self.wfile.write(body[at:])
        else:
            self.wfile.write(body if limit is None else body[:limit])
        while site.endless:
            self.wfile.write(bytes(65536))
        if limit is not None or site.claim_length is not None:
            self.wfile.flush()
            self.close_connection = True

    def _trickle_header(self, site: Site) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not site.go_on.is_set():
            self.wfile.write(b"a")
            self.wfile.flush()
            site.go_on.wait(site.header_trickle_s)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests are quiet."""
