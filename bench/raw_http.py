"""HTTP/1.1 over raw sockets, so that the client's own work is next to nothing: it finds the head's end and the length,
takes the bytes into one buffer and looks at nothing else. Everything blocks; call it on a thread."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Mapping

from msgspec import Struct

BUFFER_BYTES = 1024 * 1024
TIMEOUT_S = 30.0
_END = b"\r\n\r\n"


class Answer(Struct, frozen=True):
    """One answer."""

    seconds: float
    """From handing the request to the socket to having the answer's last byte."""
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


class Kept:
    """One kept connection, one request at a time. Raises OSError; a cut connection is one, too."""

    def __init__(self, port: int, headers: Mapping[str, str] | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines = {"Host": f"127.0.0.1:{port}", **(headers or {})}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._buffer = memoryview(bytearray(BUFFER_BYTES))

    def get(self, path: str) -> Answer:
        return self.send(self.request("GET", path))

    def request(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
        """The bytes to send."""
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        if body or method not in ("GET", "HEAD"):
            more += f"Content-Length: {len(body)}\r\n"
        return f"{method} {path} HTTP/1.1\r\n{self._head}{more}\r\n".encode() + body

    def head(self, method: str, path: str, length: int, media_type: str, headers: Mapping[str, str]) -> bytes:
        """The head of a request whose body of `length` bytes the caller sends; then comes `answer`."""
        more = {"Content-Type": media_type, "Content-Length": str(length), **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in more.items())
        return f"{method} {path} HTTP/1.1\r\n{self._head}{lines}\r\n".encode()

    def send(self, request: bytes) -> Answer:
        began = time.perf_counter()
        self.socket.sendall(request)
        return self.answer(began)

    def answer(self, began: float | None = None) -> Answer:
        """The next answer. `began`: since when it is waited for, by `time.perf_counter`; None: since now."""
        if began is None:
            began = time.perf_counter()
        size, end, need = 0, -1, BUFFER_BYTES
        while size < need:
            got = self.socket.recv_into(self._buffer[size:])
            if not got:
                raise ConnectionError("the server has cut the connection")
            size += got
            if end < 0 and (end := bytes(self._buffer[:size]).find(_END)) >= 0:
                need = end + len(_END) + length_of(bytes(self._buffer[:end]))
        seconds = time.perf_counter() - began
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        return Answer(seconds, int(lines[0].split(" ", 2)[1]), headers, bytes(self._buffer[end + len(_END) : need]))

    def close(self) -> None:
        self.socket.close()


def length_of(head: bytes) -> int:
    """Content-Length of a head, 0 for 204. Raises ValueError for an answer without one."""
    if head.startswith(b"HTTP/1.1 204"):
        return 0
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    if not found:
        raise ValueError(f"an answer without Content-Length: {head[:200]!r}")
    return int(rest.partition(b"\r\n")[0])


def hammer(port: int, request: bytes, connections: int, seconds: float) -> float:
    """Answers a second over so many kept connections, each sending its next request when it has its answer.

    Raises ValueError for an answer other than 200.
    """
    open_: dict[int, _Busy] = {}
    with select.epoll() as poll:
        try:
            for _ in range(connections):
                busy = _Busy(port)
                open_[busy.socket.fileno()] = busy
                poll.register(busy.socket.fileno(), select.EPOLLIN)
                busy.socket.sendall(request)
            began, answers = time.perf_counter(), 0
            while (now := time.perf_counter()) < began + seconds:
                for number, _ in poll.poll(1.0):
                    busy = open_[number]
                    if busy.answered():
                        answers += 1
                        busy.socket.sendall(request)
            return answers / (now - began)
        finally:
            for busy in open_.values():
                busy.socket.close()


class _Busy:
    """A connection whose answer is on its way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._size = 0
        self._need = 0
        """Zero until the head is there."""

    def answered(self) -> bool:
        """Takes what is there; whether the answer is complete."""
        got = self.socket.recv_into(self._view[self._size :])
        if not got:
            raise ConnectionError("the server has cut the connection")
        self._size += got
        if not self._need:
            end = self._buffer.find(_END, 0, self._size)
            if end < 0:
                return False
            head = bytes(self._view[:end])
            if not head.startswith(b"HTTP/1.1 200"):
                raise ValueError(f"not what was asked for: {head[:200]!r}")
            self._need = end + len(_END) + length_of(head)
        if self._size < self._need:
            return False
        self._size = self._need = 0
        return True
