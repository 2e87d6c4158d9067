"""A real HTTP server that publishes models: plain files with ranges, and a hub that speaks the hub's protocol."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Publisher(ThreadingHTTPServer):
    """`files` by path. `break_after` ends the next answers after so many bytes, one entry an answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.large: set[str] = set()
        """Paths that the hub keeps in LFS, so that it gives their SHA-256 instead of a git blob id."""
        self.break_after: list[int] = []
        self.honour_ranges = True
        self.false_sums: dict[str, str] = {}
        """Sums that the hub gives instead of the true ones."""
        self.asked: list[tuple[str, str, str | None]] = []
        """Method, path and Range of each request."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def etag(self, path: str) -> str:
        content = self.files[path]
        if path in self.false_sums:
            return self.false_sums[path]
        if path in self.large:
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Publisher

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: object) -> None:
        return None

    def _answer(self, *, body: bool) -> None:
        path, span = self.path.partition("?")[0], self.headers.get("Range")
        self.server.asked.append((self.command, path, span))
        if path.startswith("/api/models/"):
            self._listing(path.split("/"))
            return
        name = f"/{path.split('/', 5)[5]}" if "/resolve/" in path else path
        if name not in self.server.files:
            self._send(404, b"", {}, body=body)
            return
        content = self.server.files[name]
        headers = {"ETag": f'"{self.server.etag(name)}"', "X-Repo-Commit": COMMIT}
        if span and self.server.honour_ranges:
            start, _, end = span.removeprefix("bytes=").partition("-")
            content = content[int(start) : int(end) + 1 if end else None]
            self._send(206, content, headers, body=body)
        else:
            self._send(200, content, headers, body=body)

    def _listing(self, parts: list[str]) -> None:
        names = [name.removeprefix("/") for name in self.server.files]
        answer: object
        if parts[5] == "tree":
            answer = [self._entry(name) for name in names]
        else:
            repo = f"{parts[3]}/{parts[4]}"
            answer = {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"}, body=True)

    def _entry(self, name: str) -> dict[str, object]:
        path = f"/{name}"
        content = self.server.files[path]
        entry: dict[str, object] = {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
        if path in self.server.large:
            entry["lfs"] = {"oid": self.server.etag(path), "size": len(content), "pointerSize": 130}
        else:
            entry["oid"] = self.server.etag(path)
        return entry

    def _send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not body:
            return
        if self.server.break_after and len(content) > 1000:
            self.wfile.write(content[: self.server.break_after.pop(0)])
            self.close_connection = True
            return
        self.wfile.write(content)


@contextmanager
def publishing() -> Iterator[Publisher]:
    """Run a publisher on a free port."""
    with Publisher() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
