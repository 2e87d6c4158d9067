"""One HTTP(S) download into one file: checked addresses, few redirects, hard caps, resumable after any death.

The part file carries a note (`<part>.json`) of how much of it is on disk for sure and of the version it belongs to.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import httpcore
import httpx
import msgspec
from msgspec import Struct

from stages.address import GuardedBackend
from stages.errors import Rejected, StageError, Transient
from stages.folder import publish
from stages.partfile import discard, need_room, note_path

_SYNC_BYTES = 8 * 2**20
"""Bytes between two fsyncs: what a killed download fetches again at most."""
_CHUNK_BYTES = 256 * 2**10
_HEADER_S = 30.0
"""From dialling to the last header of an answer."""
_RATE_WINDOW_S = 30.0
_RESUMES = 5
"""Dropped connections in one run that are taken up again, as long as each brought something."""
_HOST = re.compile(rb"[A-Za-z0-9._:-]+")
_REDIRECTS = {301, 302, 303, 307, 308}
_TRY_LATER = {408, 425, 429, 500, 502, 503, 504}


class FetchRules(Struct, frozen=True, kw_only=True):
    """Caps of one download; see `stages.download.Options`."""

    max_bytes: int
    max_s: float
    stall_s: float
    min_bytes_per_s: int
    max_redirects: int
    allow_private_hosts: bool
    min_free_bytes: int


class Fetched(Struct, frozen=True, kw_only=True):
    size_bytes: int
    sha256: str
    content_type: str
    resumed_at: int
    """How many bytes were there already."""


class _Note(Struct, frozen=True, kw_only=True):
    """What a part file is a part of."""

    url: str
    synced_bytes: int
    validator: str | None
    """A strong ETag or a Last-Modified date: only with one of them can the rest be asked for safely."""
    content_type: str = ""


class _Dropped(Exception):
    """The connection ended early; what came is kept."""


def fetch(url: str, part: Path, rules: FetchRules, progress: Callable[[int, int | None], None]) -> Fetched:
    """Download `url` into `part`, going on where an earlier call ended if the server still has the same version.

    `progress` gets (bytes so far, total or None). On return the file is complete and fsynced. Raises `Rejected` for
    what will not change (not found, too large, a private address), `Transient` for what may.
    """
    started = time.monotonic()
    for attempt in range(_RESUMES + 1):
        had = _note(part, url)
        try:
            return _attempt(url, part, rules, progress, started)
        except _Dropped as error:
            now = _note(part, url)
            if attempt == _RESUMES or now is None or (had is not None and now.synced_bytes <= had.synced_bytes):
                raise Transient(f"the download broke off: {error}", "url-broken-off") from error
    raise AssertionError("unreachable")


def _attempt(
    url: str, part: Path, rules: FetchRules, progress: Callable[[int, int | None], None], started: float
) -> Fetched:
    note = _note(part, url)
    have = note.synced_bytes if note is not None and note.validator is not None else 0
    headers = {"Range": f"bytes={have}-", "If-Range": note.validator or ""} if note is not None and have else {}
    with _get(url, headers, rules, started) as (response, backend):
        fields = _fields(response)
        if response.status == 416 and have and _range_total(fields) == have:
            assert note is not None
            return _finish(part, note.content_type, have)
        if response.status == 206 and have and _range_start(fields) == have:
            total = _range_total(fields)
        elif response.status == 200:
            have, total = 0, _number(fields.get("content-length"))
        else:
            discard(part)
            raise Transient(f"the server answered {response.status} to a request to go on", "url-unavailable")
        if fields.get("content-encoding", "identity") != "identity":
            raise Rejected("the server compresses the video, although asked not to", "url-encoding")
        if total is not None and total > rules.max_bytes:
            raise Rejected(f"it has {total / 1e9:.1f} GB; the limit is {rules.max_bytes / 1e9:.1f} GB", "too-large")
        need_room(part, (total or 0) - have, rules.min_free_bytes)
        kind = fields.get("content-type", "").partition(";")[0].strip().lower()
        note = _Note(url=url, synced_bytes=have, validator=_validator(fields), content_type=kind)
        with part.open("r+b" if have else "wb") as file:
            file.truncate(have)
            file.seek(have)
            _receive(response, backend, file, part, note, total, rules, progress, started)
    return _finish(part, kind, have)


def _receive(
    response: httpcore.Response,
    backend: GuardedBackend,
    file: IO[bytes],
    part: Path,
    note: _Note,
    total: int | None,
    rules: FetchRules,
    progress: Callable[[int, int | None], None],
    started: float,
) -> None:
    size = synced = note.synced_bytes
    window_start, window_size = time.monotonic(), size
    try:
        for chunk in _chunks(response, backend, started + rules.max_s):
            size += len(chunk)
            if size > rules.max_bytes:
                raise Rejected(f"it is larger than the limit of {rules.max_bytes / 1e9:.1f} GB", "too-large")
            file.write(chunk)
            if size - synced >= _SYNC_BYTES:
                need_room(part, 0, rules.min_free_bytes)
                synced = _sync(file, part, note, size)
            progress(size, total)
            now = time.monotonic()
            if now - window_start >= _RATE_WINDOW_S:
                if size - window_size < rules.min_bytes_per_s * (now - window_start):
                    raise Transient(f"the server sends less than {rules.min_bytes_per_s} bytes a second", "url-slow")
                window_start, window_size = now, size
    except Transient:
        _sync(file, part, note, size)
        raise
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
        _sync(file, part, note, size)
        if time.monotonic() - started >= rules.max_s:
            raise Transient(f"the download took longer than {rules.max_s:.0f} s", "url-too-long") from error
        raise _Dropped(str(error) or type(error).__name__) from error
    except OSError as error:
        raise Transient(f"the download cannot be written: {error.strerror}", "disk-full") from error
    _sync(file, part, note, size)
    if total is not None and size < total:
        raise _Dropped(f"{size} of {total} bytes came")


def _chunks(response: httpcore.Response, backend: GuardedBackend, deadline: float) -> Iterator[bytes]:
    backend.deadline = deadline
    yield from response.iter_stream()


@contextmanager
def _get(
    url: str, headers: dict[str, str], rules: FetchRules, started: float
) -> Iterator[tuple[httpcore.Response, GuardedBackend]]:
    """GET with at most `max_redirects` hops, each checked like the first. Yields the final answer, body unread."""
    target = check_url(url)
    for _ in range(rules.max_redirects + 1):
        backend = GuardedBackend(allow_private=rules.allow_private_hosts)
        backend.deadline = min(time.monotonic() + _HEADER_S, started + rules.max_s)
        context = httpx.create_ssl_context(trust_env=False) if target.scheme == "https" else None
        timeout = {"connect": _HEADER_S / 2, "read": rules.stall_s, "write": rules.stall_s, "pool": _HEADER_S}
        with httpcore.ConnectionPool(ssl_context=context, network_backend=backend) as pool:
            try:
                with pool.stream(
                    "GET", _core_url(target), headers=_headers(target, headers), extensions={"timeout": timeout}
                ) as response:
                    if response.status not in _REDIRECTS:
                        _check_status(response, target)
                        yield response, backend
                        return
                    location = _fields(response).get("location", "")
            except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
                raise _connection_error(target, error) from error
        following = check_url(_joined(target, location))
        if target.scheme == "https" and following.scheme == "http":
            raise Rejected("the server redirects from https to plain http; use the final address", "url-redirect")
        target = following
    raise Rejected(f"the server redirects more than {rules.max_redirects} times", "url-redirect")


def _joined(target: httpx.URL, location: str) -> str:
    try:
        return str(target.join(location))
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise Rejected(f"the server redirects to what is not a URL: {error}", "url-redirect") from error


def check_url(url: str) -> httpx.URL:
    """The parsed URL. Raises `Rejected` (`url-invalid`) for anything but plain http(s) with a host."""
    try:
        target = httpx.URL(url.strip())
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise Rejected(f"this is not a URL: {error}", "url-invalid") from error
    if target.scheme not in ("http", "https"):
        raise Rejected(f"only http and https URLs are taken, not {target.scheme or 'this'}:", "url-invalid")
    if not _HOST.fullmatch(target.raw_host):
        raise Rejected("the URL names no valid host", "url-invalid")
    if target.userinfo:
        raise Rejected("the URL carries a user name or password; it would be stored in plain", "url-invalid")
    return target.copy_with(fragment=None)


def _check_status(response: httpcore.Response, target: httpx.URL) -> None:
    if response.status in (200, 206, 416):
        return
    text = f"{target.host} answered {response.status}"
    if response.status in _TRY_LATER:
        raise Transient(f"{text}; it may work later", "url-unavailable")
    why = {401: "it asks for a login", 403: "it refuses access", 404: "there is nothing at this URL", 410: "it is gone"}
    raise Rejected(f"{text}: {why.get(response.status, 'the video cannot be had there')}", "url-refused")


def _connection_error(target: httpx.URL, error: Exception) -> StageError:
    text = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return Rejected(f"{target.host} has no valid certificate: {text}", "url-certificate")
    return Transient(f"{target.host} cannot be reached: {text}", "url-unreachable")


def _core_url(target: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path)


def _headers(target: httpx.URL, more: dict[str, str]) -> list[tuple[bytes, bytes]]:
    all_headers = {
        "Host": target.netloc.decode("ascii"),
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "User-Agent": "agentos-appliance",
        **more,
    }
    return [
        (name.encode("ascii"), quote(value, safe="!#$%&'()*+,/:;=?@[]~\" -").encode("ascii"))
        for name, value in all_headers.items()
    ]


def _fields(response: httpcore.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1").strip() for name, value in response.headers}


def _validator(fields: dict[str, str]) -> str | None:
    """What If-Range takes: a strong ETag, else a date (RFC 9110 §13.1.5)."""
    if fields.get("accept-ranges", "bytes") == "none":
        return None
    etag = fields.get("etag", "")
    return etag if etag.startswith('"') else fields.get("last-modified")


def _range_start(fields: dict[str, str]) -> int | None:
    return _number(fields.get("content-range", "").removeprefix("bytes ").partition("-")[0])


def _range_total(fields: dict[str, str]) -> int | None:
    return _number(fields.get("content-range", "").rpartition("/")[2])


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _note(part: Path, url: str) -> _Note | None:
    """The part's note, if both are there and belong to `url`."""
    try:
        note = msgspec.json.decode(note_path(part).read_bytes(), type=_Note)
        size = part.stat().st_size
    except (OSError, msgspec.DecodeError):
        return None
    return note if note.url == url and note.synced_bytes <= size else None


def _sync(file: IO[bytes], part: Path, note: _Note, size: int) -> int:
    """Flush to the disk, then say so in the note; returns `size`."""
    file.flush()
    os.fsync(file.fileno())
    with publish(note_path(part)) as hidden:
        hidden.write_bytes(msgspec.json.encode(msgspec.structs.replace(note, synced_bytes=size)))
    return size


def _finish(part: Path, content_type: str, resumed_at: int) -> Fetched:
    with part.open("rb") as file:
        digest: Any = hashlib.file_digest(file, "sha256")
        size = file.tell()
    return Fetched(size_bytes=size, sha256=digest.hexdigest(), content_type=content_type, resumed_at=resumed_at)
