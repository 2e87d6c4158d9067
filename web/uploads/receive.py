"""The bytes of one request into an upload's file: written while more come, confirmed as they reach the disk.

At most two gathers are in memory, whatever the upload's size and the speeds of network and disk.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from functools import partial
from hmac import compare_digest

from litestar.types import Receive
from msgspec import Struct

from web.problems import Problem
from web.uploads.leases import Lease, locked
from web.uploads.part import PartFile
from web.uploads.service import Uploads
from web.uploads.table import Upload

GATHER_BYTES = 1024 * 1024
DRAIN_BYTES = 16 * 1024 * 1024
DRAIN_S = 1.0
ALGORITHMS = {"sha256": "sha256", "sha-256": "sha256", "sha1": "sha1"}
"""Names of tus and the libraries': the protocol demands sha1."""


class Checksum(Struct, frozen=True):
    """What the bytes of one request must hash to."""

    algorithm: str
    digest: bytes


class Cut(Exception):
    """The client is gone in the middle of its request: nobody waits for an answer."""


def parse_checksum(header: str | None) -> Checksum | None:
    """An `Upload-Checksum` header. Raises `Problem` 400."""
    if header is None:
        return None
    name, _, value = header.strip().partition(" ")
    algorithm = ALGORITHMS.get(name.lower())
    if algorithm is None:
        raise Problem(400, "bad-checksum", f"Upload-Checksum: {name!r} is not known; there are sha256 and sha1")
    try:
        digest = base64.b64decode(value.strip(), validate=True)
    except ValueError:
        digest = b""
    if len(digest) != {"sha1": 20, "sha256": 32}[algorithm]:
        raise Problem(400, "bad-checksum", f"Upload-Checksum holds no {name} in base64")
    return Checksum(algorithm, digest)


class Body:
    """The body of one request, read once."""

    def __init__(self, receive: Receive, stall_s: float) -> None:
        self._receive = receive
        self._stall_s = stall_s
        self._ended = False

    async def pieces(self, lease: Lease | None = None) -> AsyncIterator[bytes]:
        """As they come. Raises `Cut`, `Problem` 423 when the lease has to let go, 408 when nothing comes."""
        while not self._ended:
            try:
                async with asyncio.timeout(self._stall_s) as scope:
                    if lease is not None:
                        lease.waiting(scope)
                    piece = await self._next()
            except TimeoutError:
                if lease is not None and lease.asked:
                    raise locked() from None
                raise Problem(408, "stalled", f"nothing came for {self._stall_s:g} s: go on from the offset") from None
            finally:
                if lease is not None:
                    lease.waiting(None)
            if lease is not None:
                lease.heard()
            if piece:
                yield piece
            if lease is not None and lease.asked and not self._ended:
                raise locked()

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._ended = True
            raise Cut
        assert message["type"] == "http.request"
        self._ended = not message.get("more_body", False)
        return message["body"]

    async def rest_is_read(self) -> bool:
        """Read and forget the rest, if it is short: an answer in the middle of a body does not reach every client.

        False: the connection has to be closed.
        """
        size = 0
        try:
            async with asyncio.timeout(DRAIN_S):
                while not self._ended and size <= DRAIN_BYTES:
                    size += len(await self._next())
        except (TimeoutError, Cut):
            return False
        return self._ended


async def receive_into(
    uploads: Uploads,
    upload: Upload,
    part: PartFile,
    body: AsyncIterator[bytes],
    *,
    checksum: Checksum | None = None,
) -> None:
    """Append the body. What came before any error is kept and confirmed; with a checksum, all of it or nothing.

    Raises `Cut`, and `Problem` 413 for more bytes than announced, 460 for a wrong checksum, 507 on a full disk.
    """
    trouble: Exception | None = None
    room = upload.size_bytes - part.written_bytes
    writing: asyncio.Future[None] | None = None
    gathered: list[bytes] = []
    size = 0
    try:
        try:
            async for piece in body:
                if len(piece) > room:
                    gathered.append(piece[:room])
                    size, room = size + room, 0
                    raise Problem(
                        413,
                        "too-long",
                        f"more came than the {upload.size_bytes} bytes that were announced",
                        limit_bytes=upload.size_bytes,
                    )
                gathered.append(piece)
                size, room = size + len(piece), room - len(piece)
                if size < GATHER_BYTES:
                    continue
                if writing is not None:
                    await writing
                if checksum is None and part.written_bytes - part.confirmed_bytes >= uploads.settings.sync_bytes:
                    await uploads.confirm(upload, part)
                writing = asyncio.ensure_future(uploads.run(partial(part.write, gathered)))
                gathered, size = [], 0
        except (Cut, Problem) as error:
            if not part.is_open:
                raise  # refused while it was confirmed: there is no file any more
            trouble = error
        if writing is not None:
            await writing
            writing = None
        if gathered:
            await uploads.run(partial(part.write, gathered))
        if checksum is not None:
            await _check(uploads, part, checksum, trouble)
        await uploads.confirm(upload, part)
    except OSError as error:
        await asyncio.gather(*([writing] if writing is not None else []), return_exceptions=True)
        await uploads.run(part.roll_back)
        raise await uploads.disk_trouble(error, upload, part) from error
    except BaseException:
        await asyncio.shield(asyncio.gather(*([writing] if writing is not None else []), return_exceptions=True))
        raise
    if trouble is not None:
        raise trouble


async def _check(uploads: Uploads, part: PartFile, checksum: Checksum, trouble: Exception | None) -> None:
    """Bytes that cannot be checked, because the request was cut, are as bad as wrong ones. Raises `Problem` 460."""
    if trouble is None:
        found = await uploads.run(partial(part.unconfirmed_sum, checksum.algorithm))
        if compare_digest(found, checksum.digest):
            return
        trouble = Problem(460, "checksum-mismatch", "the bytes of this request do not fit its Upload-Checksum")
    await uploads.run(part.roll_back)
    raise trouble
