"""The network between a client and the box, in a test's hands: it can be cut in the middle of an upload."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

CHUNK_BYTES = 64 * 1024
WAIT_S = 0.05
RESET = struct.pack("ii", 1, 0)
"""As SO_LINGER: a close drops what is not sent and resets the connection."""


class Wire:
    """Forwards TCP from a port of its own to `target`. Each connection has a thread; all end with the block."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._left_bytes: int | None = None
        self._due: Callable[[], object] = self.cut
        self._closed = False
        self._down = self._stay_down = False
        self.was_cut = threading.Event()
        """Set when a cut that was asked for has happened."""

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._closed = True
        self._listener.shutdown(socket.SHUT_RDWR)  # closing alone does not end an `accept` that waits
        self._listener.close()
        self.cut()

    def cut_after(self, sent_bytes: int, *, stay_down: bool = False) -> None:
        """Cuts everything once the client has sent so many bytes more; `stay_down` until `restore`."""
        with self._lock:
            self.was_cut.clear()
            self._left_bytes = sent_bytes
            self._due = self.cut
            self._stay_down = stay_down

    def when_sent(self, sent_bytes: int, act: Callable[[], object]) -> None:
        """Calls `act`, on the connection's thread, once the client has sent so many bytes more."""
        with self._lock:
            self._left_bytes = sent_bytes
            self._due = act

    def forget(self) -> None:
        """What was to happen after so many bytes happens no more."""
        with self._lock:
            self._left_bytes = None

    def restore(self) -> None:
        """New connections are let through again."""
        self._down = False

    def cut(self) -> None:
        """Ends every connection at once. The client is told by a reset: one that is in the middle of sending, and whose
        bytes nobody takes any more, would not hear a goodbye."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
            self._left_bytes = None
            self._down, self._stay_down = self._stay_down, False
        for near, far in pairs:
            with contextlib.suppress(OSError):
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            for side in (near, far):
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
        self.was_cut.set()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        if self._down:
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:
            near.close()  # the box is away: as if it were not there
            return
        far.settimeout(None)
        with self._lock:
            self._pairs.add((near, far))
        try:
            self._forward(near, far)
        finally:
            with self._lock:
                self._pairs.discard((near, far))

    def _forward(self, near: socket.socket, far: socket.socket) -> None:
        with near, far, selectors.DefaultSelector() as ready:
            ready.register(near, selectors.EVENT_READ, far)
            ready.register(far, selectors.EVENT_READ, near)
            with contextlib.suppress(OSError):
                while not self._closed:
                    for key, _ in ready.select(WAIT_S):
                        data = key.fileobj.recv(CHUNK_BYTES)  # type: ignore[union-attr]
                        if not data:
                            return
                        key.data.sendall(data)
                        if key.fileobj is near:
                            self._count(len(data))

    def _count(self, sent: int) -> None:
        with self._lock:
            if self._left_bytes is None:
                return
            self._left_bytes -= sent
            if self._left_bytes > 0:
                return
            self._left_bytes = None
            due = self._due
        due()
