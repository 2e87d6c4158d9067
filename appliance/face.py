"""The settings of the web process (`web` and `websocket` of `appliance.settings`), and the file that tells its address.

They stand here and not in `web`, because the configuration, the supervisor and the commands need them, and nothing
imports `web`.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

MIB = 1024**2


class Web(Struct, frozen=True, kw_only=True):
    """The web pages and the HTTP API."""

    enabled: Annotated[bool, Meta(description="Whether `appliance up` serves the pages and the API.")] = True
    host: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=255,
            description="Address to listen on. 127.0.0.1: this machine only. 0.0.0.0 or ::: every network.",
        ),
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on. 0: any free port.")] = 8000
    allowed_hosts: Annotated[
        list[str],
        Meta(
            max_length=64,
            description="Further names under which browsers may reach the box, such as box.example.org. Addresses and "
            "this machine's own name are allowed anyway; any other Host is refused.",
        ),
    ] = msgspec.field(default_factory=list)
    public_url: Annotated[
        Annotated[str, Meta(pattern=r"^https?://[^/@\s]+$")] | None,
        Meta(
            description="How browsers reach the box when something stands in front of it, such as "
            "https://box.example.org. With https the session cookie is only sent encrypted. null: as it listens.",
        ),
    ] = None
    max_body_bytes: Annotated[
        int, Meta(ge=1024, le=64 * MIB, description="Largest body of a request in bytes, uploads apart.")
    ] = 1 * MIB
    max_connections: Annotated[
        int, Meta(ge=10, le=100_000, description="Requests and sockets at once; more are answered with 503.")
    ] = 1000
    stop_grace_s: Annotated[
        float, Meta(ge=0, le=300, description="Seconds that running requests get when the box ends.")
    ] = 5.0
    session_idle_s: Annotated[
        float, Meta(ge=60, le=31 * 86400, description="Seconds without a request after which a session is over.")
    ] = 12 * 3600.0
    session_max_s: Annotated[
        float, Meta(ge=60, le=366 * 86400, description="Seconds after which a session is over in any case.")
    ] = 7 * 86400.0
    login_per_minute: Annotated[
        int,
        Meta(
            ge=1,
            le=600,
            description="Wrong passwords a minute from one address, and for one account from places where nobody has "
            "logged in to it before; more have to wait.",
        ),
    ] = 10
    access_log: Annotated[bool, Meta(description="Whether each request is logged: method, path, status, time.")] = True


class Uploads(Struct, frozen=True, kw_only=True):
    """Videos that come in over the web."""

    max_bytes: Annotated[int, Meta(ge=MIB, description="Largest upload in bytes; a larger one is refused.")] = (
        20_000_000_000
    )
    sync_bytes: Annotated[
        int,
        Meta(
            ge=64 * 1024,
            le=1024 * MIB,
            description="Bytes after which what came is written to the disk for good; at most so many are sent again "
            "after a crash.",
        ),
    ] = 8 * MIB
    stall_timeout_s: Annotated[
        float, Meta(ge=1, le=3600, description="Seconds without a byte after which an upload's connection is ended.")
    ] = 60.0
    expire_s: Annotated[
        float, Meta(ge=60, le=31 * 86400, description="Seconds without a byte after which an unfinished upload goes.")
    ] = 86400.0
    keep_s: Annotated[
        float,
        Meta(ge=60, le=366 * 86400, description="Seconds that a finished upload without a job is kept."),
    ] = 7 * 86400.0
    max_unfinished: Annotated[
        int, Meta(ge=1, le=10_000, description="Unfinished uploads of one person at once; more are refused.")
    ] = 50


class WebSocket(Struct, frozen=True, kw_only=True):
    """The live feed."""

    heartbeat_s: Annotated[float, Meta(ge=1, le=300, description="Seconds between two heartbeats.")] = 30.0
    per_ip: Annotated[int, Meta(ge=1, le=10_000, description="Connections at once from one address.")] = 5
    max_connections: Annotated[int, Meta(ge=1, le=100_000, description="Connections at once in all.")] = 1000
    max_message_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=16 * MIB,
            description="Bytes of the largest message that is taken; a larger one ends the connection.",
        ),
    ] = MIB
    max_queue_bytes: Annotated[
        int,
        Meta(
            ge=16 * 1024,
            le=256 * MIB,
            description="Bytes that may wait for a slow client; past them it is dropped and has to catch up.",
        ),
    ] = 1 * MIB
    ring_events: Annotated[
        int, Meta(ge=16, le=1_000_000, description="Events that a client may have missed and still catch up on.")
    ] = 4096


class WebFile(Struct, frozen=True, kw_only=True):
    """`run/web.json`: where the running web process listens."""

    pid: int
    url: str
    """As browsers should reach it."""


def web_file(data_dir: Path) -> Path:
    return data_dir / "run" / "web.json"


def write_web_file(data_dir: Path, settings: Web, port: int) -> WebFile:
    """Say where this process listens. Blocking."""
    from stages.folder import publish

    told = WebFile(pid=os.getpid(), url=shown_url(settings, port))
    with publish(web_file(data_dir)) as part:
        part.write_bytes(msgspec.json.encode(told))
    return told


def read_web_file(data_dir: Path) -> WebFile | None:
    """Where the web process of this data folder listens, or listened last. Blocking."""
    try:
        return msgspec.json.decode(web_file(data_dir).read_bytes(), type=WebFile)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def shown_url(settings: Web, port: int) -> str:
    """The address to print: the public one, or one that works on this machine."""
    if settings.public_url is not None:
        return settings.public_url
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104 - compared, not bound
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether listening on `host` is reachable from this machine only."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def public_host(settings: Web) -> str | None:
    return None if settings.public_url is None else urlsplit(settings.public_url).hostname
