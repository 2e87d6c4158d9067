"""Tus clients that are not ours, in processes of their own, stopped at chosen points of what they send."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import random
import subprocess
import threading
from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct

from tests.browser.proxy import Wire
from tests.faults import tuspy_sender
from tests.integration.web.uploading import content
from web import pages

Cut: TypeAlias = Literal["kill", "wire", "abort"]
KIB, MIB = 1024, 1024 * 1024
BEGUN_BYTES = 4 * KIB
"""Past the request that makes the upload: the client has stored its URL."""
CHUNKS_BYTES = (100_000, 512 * KIB, 64 * MIB)
WAIT_S = 60.0
_forks = multiprocessing.get_context("forkserver")


class Order(Struct, frozen=True, kw_only=True):
    """One file to be sent."""

    endpoint: str
    token: str
    file: Path
    urls: Path
    """Where the client keeps the upload's URL."""
    chunk_bytes: int
    checksums: bool


class Client(ABC):
    """A process that sends one file and goes on where it stopped, however often it is started."""

    cuts: tuple[Cut, ...] = ("kill", "wire")

    def __init__(self, order: Order) -> None:
        self.order = order

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL."""

    @abstractmethod
    def wait(self, timeout_s: float) -> int | None:
        """The process's exit status, None while it runs."""


class Tuspy(Client):
    """Forked from a server that has imported the library: a start costs milliseconds."""

    def start(self) -> None:
        _forks.set_forkserver_preload(["tusclient.client", "tusclient.storage.filestorage"])
        order = self.order
        arguments = (
            order.endpoint,
            order.token,
            str(order.file),
            str(order.urls),
            order.chunk_bytes,
            order.checksums,
        )
        self._process = _forks.Process(target=tuspy_sender.send, args=arguments, daemon=True)
        self._process.start()

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout_s: float) -> int | None:
        self._process.join(timeout_s)
        return self._process.exitcode


class TusJs(Client):
    """Node with the library that the pages use."""

    cuts = ("kill", "wire", "abort", "abort")

    def start(self) -> None:
        order = self.order
        asked = {
            "endpoint": order.endpoint,
            "token": order.token,
            "file": str(order.file),
            "urls": str(order.urls),
            "chunk": order.chunk_bytes,
        }
        script = Path(__file__).with_name("tus_js_sender.mjs")
        library = pages.FOLDER / "node_modules" / "tus-js-client"
        self._process = subprocess.Popen(
            [*pages.node(), str(script), str(library), json.dumps(asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout_s: float) -> int | None:
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        return status

    def abort(self) -> None:
        """Asks the client to stop and to go on with what it has stored."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"abort\n")

    def aborted(self) -> bool:
        """Whether it has stopped because of `abort`; False when it had ended before."""
        assert self._process.stdout is not None
        return self._process.stdout.readline() == b"aborted\n"


class CutClients:
    """Lets clients of one kind send files to the box behind `wire`, and cuts them at random points. Blocking."""

    def __init__(self, kind: type[Client], wire: Wire, token: str, folder: Path, seed: int) -> None:
        self._kind = kind
        self._wire = wire
        self._token = token
        self._folder = folder
        self._random = random.Random(seed)
        self.cuts: Counter[Cut] = Counter()
        self.sent: list[Path] = []

    def until(self, wanted: int) -> None:
        """Uploads, one after the other, until so many cuts have been made."""
        while self.cuts.total() < wanted:
            most = min(12, wanted - self.cuts.total())
            self.upload(self._random.choices(self._kind.cuts, k=self._random.randint(1, most)))

    def upload(self, cuts: list[Cut]) -> None:
        """One upload through these cuts to its end."""
        client = self._client(size := self._random.randint(512 * KIB, 6 * MIB))
        client.start()
        for how in cuts:
            status = self._cut(client, how, self._random.randint(BEGUN_BYTES, size // len(cuts)))
            if status == 0:
                break  # the answer to its last byte came before the cut
            if status is not None:
                assert how == "kill", f"the client ended with status {status} ({how})"
                client.start()
        self._wire.forget()
        assert client.wait(WAIT_S) == 0

    def _client(self, size_bytes: int) -> Client:
        file = self._folder / f"{len(self.sent)}.mp4"
        file.write_bytes(content(size_bytes, seed=self._random.randrange(2**32)))
        self.sent.append(file)
        return self._kind(
            Order(
                endpoint=f"http://127.0.0.1:{self._wire.port}/api/uploads",
                token=self._token,
                file=file,
                urls=file.with_suffix(".urls.json"),
                chunk_bytes=self._random.choice(CHUNKS_BYTES),
                checksums=self._random.random() < 0.5,
            )
        )

    def _cut(self, client: Client, how: Cut, sent_bytes: int) -> int | None:
        """Once the client has sent so many bytes more; the exit status of a client that has ended."""
        happened = threading.Event()
        aborting = client if how == "abort" and isinstance(client, TusJs) else None
        act = aborting.abort if aborting is not None else {"kill": client.kill, "wire": self._wire.cut}[how]

        def due() -> None:
            act()
            happened.set()

        self._wire.when_sent(sent_bytes, due)
        while not happened.wait(0.02):
            if (status := client.wait(0)) is not None:
                return status
        if aborting is not None and not aborting.aborted():
            return client.wait(WAIT_S)
        self.cuts[how] += 1
        return client.wait(WAIT_S) if how == "kill" else None

    def digests(self) -> Counter[str]:
        """Of what was to be sent."""
        return Counter(hashlib.sha256(file.read_bytes()).hexdigest() for file in self.sent)
