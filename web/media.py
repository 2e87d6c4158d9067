"""Files of the data folder as HTTP answers: opened without following links; in ranges, conditionally, piece by piece.

Names in a path are ours (ids and clip numbers), never a client's text; and still each folder is opened below the one
before it with O_NOFOLLOW, so that nothing planted in the data folder leads out of it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Iterable, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from web.problems import Problem

CHUNK_BYTES = 256 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
"""Of these the last one is a socket's."""
_SAFE_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ._-()")


class OpenFile(NamedTuple):
    """An open regular file. Whoever has it closes `fd`."""

    fd: int
    size: int
    mtime_ns: int

    @property
    def etag(self) -> str:
        """Strong: our files are replaced as a whole, never written in place."""
        return f'"{self.mtime_ns:x}-{self.size:x}"'


def open_below(root: Path, parts: Iterable[str]) -> OpenFile | None:
    """The regular file `root/part/…/part`, None when there is none (or a link in its place). Blocking.

    The first part (`output`, `jobs`) may be a link, for an operator who keeps it on another disk. Raises ValueError for
    a part that is not a plain name, OSError when it cannot be told.
    """
    *folders, name = parts
    for part in (*folders, name):
        if part in ("", ".", "..") or "/" in part or "\0" in part:
            raise ValueError(f"{part!r} is not a plain name")
    try:
        fd = os.open(root, _FOLDER)
        try:
            for depth, folder in enumerate(folders):
                inner = os.open(folder, _FOLDER | (os.O_NOFOLLOW if depth else 0), dir_fd=fd)
                os.close(fd)
                fd = inner
            file = os.open(name, _FILE, dir_fd=fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        os.close(file)
        return None
    return OpenFile(file, status.st_size, status.st_mtime_ns)


class Part(NamedTuple):
    """Bytes [start, end) of a file."""

    start: int
    end: int


def requested_part(header: str | None, size: int) -> Part | None:
    """The one range that a Range header asks for (RFC 9110 section 14.2); None: the whole file.

    Several ranges, other units and nonsense mean the whole file, as the standard allows. Raises `Problem` 416 when the
    range lies outside of the file.
    """
    if header is None or not header.startswith("bytes=") or "," in header:
        return None
    first, dash, last = header[6:].strip().partition("-")
    if not dash or not all(text.isascii() and (text == "" or text.isdigit()) for text in (first, last)):
        return None
    if len(first) > 18 or len(last) > 18 or (first == "" and last == ""):
        return None
    if first == "":
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), size if last == "" else min(size, int(last) + 1)
        if last != "" and int(last) < start:
            return None
    if start >= size or start >= end:
        detail = f"the file has {size} bytes"
        raise Problem(416, "range-not-satisfiable", detail, headers={"Content-Range": f"bytes */{size}"})
    return Part(start, end)


def not_modified(headers: Mapping[str, str], file: OpenFile) -> bool:
    """Whether the client's copy is this file."""
    if (known := headers.get("if-none-match")) is not None:
        return matches(known, file.etag)
    return headers.get("if-modified-since") == modified(file)


def matches(known: str, etag: str) -> bool:
    """Weak comparison of a tag with those of an If-None-Match header, RFC 9110 section 8.8.3.2."""
    wanted = etag.removeprefix("W/")
    return known.strip() == "*" or any(tag.strip().removeprefix("W/") == wanted for tag in known.split(","))


def modified(file: OpenFile) -> str:
    return formatdate(file.mtime_ns // 1_000_000_000, usegmt=True)


def disposition(name: str) -> str:
    """A Content-Disposition that saves under `name`, whatever characters it has (RFC 6266)."""
    plain = "".join(c if c in _SAFE_NAME else "_" for c in name)[:100] or "file"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')[:600]}"


class FileAnswer:
    """An ASGI answer that sends one file or a part of it, and closes it."""

    def __init__(
        self, file: OpenFile, media_type: str, headers: Mapping[str, str], *, download_as: str | None = None
    ) -> None:
        self._file = file
        self._headers = {
            "Content-Type": media_type,
            "Accept-Ranges": "bytes",
            "ETag": file.etag,
            "Last-Modified": modified(file),
            "Cache-Control": "private, no-cache",
            # Even a file that a browser could be made to take for a page runs and loads nothing.
            "Content-Security-Policy": "default-src 'none'; media-src 'self'; img-src 'self'; sandbox",
        }
        if download_as is not None:
            self._headers["Content-Disposition"] = disposition(download_as)
        self._status = 200
        self._part = Part(0, file.size)
        try:
            self._judge(headers)
        except BaseException:
            os.close(file.fd)
            raise

    def _judge(self, headers: Mapping[str, str]) -> None:
        if not_modified(headers, self._file):
            self._status, self._part = 304, Part(0, 0)
            return
        if headers.get("if-range") in (None, self._file.etag, self._headers["Last-Modified"]):
            part = requested_part(headers.get("range"), self._file.size)
            if part is not None:
                self._status, self._part = 206, part
                self._headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{self._file.size}"
        self._headers["Content-Length"] = str(self._part.end - self._part.start)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        left = asyncio.create_task(_left(receive))
        try:
            headers = [(key.lower().encode(), value.encode("latin-1")) for key, value in self._headers.items()]
            await send({"type": "http.response.start", "status": self._status, "headers": headers})
            at = self._part.start if scope["method"] != "HEAD" else self._part.end
            while at < self._part.end:
                wanted = min(CHUNK_BYTES, self._part.end - at)
                chunk = await asyncio.to_thread(os.pread, self._file.fd, wanted, at)
                if left.done():  # what is sent now would go nowhere, at the speed of the disk
                    return
                if not chunk:
                    raise OSError("the file became shorter while it was sent")
                at += len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            left.cancel()
            os.close(self._file.fd)


async def _left(receive: Any) -> None:
    """Returns when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
