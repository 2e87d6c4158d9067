"""Dashboards that cost as little as may be: raw sockets in one loop, the clock read when bytes arrive.

    python -m bench.readers PORT COUNT PATH [BEARER]

Writes `ready` when every socket has had its first frame. Then, for each line on standard input, one line of JSON: what
arrived since the line before, `{"<type> <job>": [monotonic nanoseconds of each socket], …}`, and `"lost"`, how many
sockets were closed. Ends with its standard input. `CLOCK_MONOTONIC` is the same in all processes of a machine. What has
come is looked into when nothing more comes: the clock of one socket does not wait for another's frame to be understood.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import struct
import sys
import time

_EVENT = re.compile(rb'"type":\s*"([a-z]+:[a-z]+)".*?"job":\s*"([0-9a-z]{26})"')
_READ_BYTES = 65536
_PING, _PONG = 0x9, 0xA


class Reader:
    """One dashboard."""

    def __init__(self, port: int, path: str, bearer: str | None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.greeted = False
        self._left = b""
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
        ]
        if bearer is not None:
            lines.append(f"Authorization: Bearer {bearer}")
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        while b"\r\n\r\n" not in self._left:
            self._left += self.socket.recv(_READ_BYTES)
        head, self._left = self._left.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            raise SystemExit(f"refused: {head.decode()}")
        self.socket.setblocking(False)

    def read(self) -> bytes | None:
        """What has come, None when the connection is over."""
        try:
            return self.socket.recv(_READ_BYTES) or None
        except BlockingIOError:
            return b""
        except OSError:
            return None

    def take(self, data: bytes) -> list[str]:
        """Keys of the events that are complete with `data`."""
        buffer = self._left + data
        found = []
        at = 0
        while len(buffer) - at >= 2:
            size, start = buffer[at + 1] & 0x7F, at + 2
            if size == 126:
                if len(buffer) < start + 2:
                    break
                (size,), start = struct.unpack_from("!H", buffer, start), start + 2
            elif size == 127:
                if len(buffer) < start + 8:
                    break
                (size,), start = struct.unpack_from("!Q", buffer, start), start + 8
            if len(buffer) < start + size:
                break
            self.greeted = True
            if buffer[at] & 0x0F == _PING:
                # Masked with zeros. A server closes a connection that does not answer.
                self.socket.sendall(bytes((0x80 | _PONG, 0x80 | size, 0, 0, 0, 0)) + buffer[start : start + size])
            if (event := _EVENT.search(buffer, start, start + size)) is not None:
                found.append(f"{event[1].decode()} {event[2].decode()}")
            at = start + size
        self._left = buffer[at:]
        return found


def main() -> int:
    port, count, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    bearer = sys.argv[4] if len(sys.argv) > 4 else None
    selector = selectors.DefaultSelector()
    readers = [Reader(port, path, bearer) for _ in range(count)]
    for reader in readers:
        reader.take(b"")
        selector.register(reader.socket, selectors.EVENT_READ, reader)
    selector.register(sys.stdin, selectors.EVENT_READ, None)
    arrived: dict[str, list[int]] = {}
    come: list[tuple[Reader, bytes, int]] = []
    lost, ready = 0, False
    while True:
        if not ready and all(reader.greeted for reader in readers):
            ready = True
            print("ready", flush=True)
        found = [key.data for key, _ in selector.select(0 if come else None)]
        asked = None in found
        for reader in found:
            if reader is None:
                continue
            data = reader.read()
            now = time.monotonic_ns()
            if data is None:
                selector.unregister(reader.socket)
                lost += 1
            else:
                come.append((reader, data, now))
        if any(found):
            continue
        for reader, data, now in come:
            for event in reader.take(data):
                arrived.setdefault(event, []).append(now)
        come.clear()
        if asked:
            if not sys.stdin.readline():
                return 0
            print(json.dumps({**arrived, "lost": lost}), flush=True)
            arrived = {}


if __name__ == "__main__":
    sys.exit(main())
