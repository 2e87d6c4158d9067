"""Speaking tus by hand, byte by byte where it matters, and content that looks like a video to whoever only glances."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import socket
import struct

import httpx

from appliance.uploads import content_path
from bus.events import Command, decode_command
from bus.stored import Stored
from tests.integration.web.conftest import WebBox

HEAD = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"
TUS = {"Tus-Resumable": "1.0.0"}
OFFSET_TYPE = "application/offset+octet-stream"


def content(size: int, seed: int = 0) -> bytes:
    """Bytes of this size that begin like an MP4."""
    return (HEAD + random.Random(seed).randbytes(max(0, size - len(HEAD))))[:size]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def metadata(**fields: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in fields.items())


def checksum(data: bytes, name: str = "sha256") -> str:
    return f"{name} {base64.b64encode(hashlib.new(name, data).digest()).decode()}"


async def create(client: httpx.AsyncClient, size: int, **fields: str) -> str:
    """Begin an upload; its address."""
    answer = await client.post(
        "/api/uploads",
        headers={**TUS, "Upload-Length": str(size), "Upload-Metadata": metadata(**{"filename": "talk.mp4", **fields})},
    )
    assert answer.status_code == 201, answer.text
    return str(answer.headers["Location"])


async def send(client: httpx.AsyncClient, url: str, data: bytes, at: int, **headers: str) -> httpx.Response:
    return await client.patch(
        url, content=data, headers={**TUS, "Content-Type": OFFSET_TYPE, "Upload-Offset": str(at), **headers}
    )


async def send_raw(client: httpx.AsyncClient, url: str, at: int, name: str, value: bytes) -> httpx.Response:
    """An empty PATCH with one header whose value need not be text."""
    headers = {**TUS, "Content-Type": OFFSET_TYPE, "Upload-Offset": str(at)}
    as_bytes = [(key.encode(), text.encode()) for key, text in headers.items()]
    return await client.patch(url, content=b"", headers=[*as_bytes, (name.encode(), value)])


async def offset(client: httpx.AsyncClient, url: str) -> int:
    answer = await client.head(url, headers=TUS)
    assert answer.status_code == 200, answer.text
    return int(answer.headers["Upload-Offset"])


def request_head(client: httpx.AsyncClient, url: str, at: int, length: int) -> bytes:
    """The head of a PATCH as raw bytes, with the client's credentials."""
    lines = [
        f"PATCH {url} HTTP/1.1",
        f"Host: {client.base_url.host}",
        "Tus-Resumable: 1.0.0",
        f"Content-Type: {OFFSET_TYPE}",
        f"Upload-Offset: {at}",
        f"Content-Length: {length}",
    ]
    if "Authorization" in client.headers:
        lines.append(f"Authorization: {client.headers['Authorization']}")
    return "\r\n".join([*lines, "", ""]).encode()


class RawPatch:
    """One PATCH on a socket of our own, to be cut wherever it hurts."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def begin(cls, client: httpx.AsyncClient, url: str, at: int, length: int) -> RawPatch:
        port = client.base_url.port
        assert port is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_head(client, url, at, length))
        await writer.drain()
        return cls(reader, writer)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def status(self) -> int:
        """Of the answer."""
        line = await self.reader.readline()
        return int(line.split()[1]) if line else 0

    def reset(self) -> None:
        """End the connection with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return


async def facts(web: WebBox) -> list[Stored]:
    return await web.services.bus.read(0, "evt.file.>") + await web.services.bus.read(0, "evt.job.>")


async def commands(web: WebBox) -> list[Command]:
    return [decode_command(s.data) for s in await web.services.bus.read(0, "cmd.>")]


def stored(web: WebBox, data: bytes) -> bytes:
    return content_path(web.config.data_dir, sha256(data)).read_bytes()
