"""The programs that the box starts or joins: nats-server, the cache, and what tests and the demo use."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from appliance.cache.opening import MAX_SOCKET_PATH_BYTES, cache_socket
from appliance.config import Config
from appliance.doctor.finding import Finding, fail, ok, warn
from appliance.errors import ProcessFailed
from appliance.listening import listen
from appliance.supervisor.lock import box_pid

START_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 2.0


def bus(config: Config) -> list[Finding]:
    """The nats-server that the configuration names: a server to join, or a program that must start and a free port."""
    if config.bus.url is not None:
        return [_joined(config.bus.url)]
    return [_embedded(config), _port(config)]


def web(config: Config) -> list[Finding]:
    """The address of the pages: free, or this box's already."""
    if not config.web.enabled:
        return [ok("web", "off, no pages and no API")]
    try:
        listen(config.web.host, config.web.port).close()
    except ProcessFailed as error:
        if box_pid(config.data_dir) is not None:
            return [ok("web", f"{config.web.host}:{config.web.port} is taken, this box runs")]
        found, _, action = str(error).rpartition(": ")
        return [fail("web", found, "the box cannot start", action)]
    if config.web.port == 0:
        return [ok("web", f"any free port of {config.web.host} is taken")]
    return [ok("web", f"{config.web.host}:{config.web.port} is free")]


def cache(config: Config) -> list[Finding]:
    if config.cache.url == "off":
        return [ok("cache", "off, everything is computed each time")]
    if config.cache.url != "auto":
        return [_external_cache(config.cache.url)]
    if len(os.fsencode(cache_socket(config.data_dir))) > MAX_SOCKET_PATH_BYTES:
        return [
            warn(
                "cache",
                f"the path of {config.data_dir} is too long for the socket of a cache server",
                "everything is computed each time; the box works all the same",
                "take a shorter data_dir, or set cache.url: off",
            )
        ]
    for name in ("redis-server", "valkey-server"):
        if (program := shutil.which(name)) is not None:
            return [ok("cache", f"{program} {_version_line([program, '--version'])}")]
    return [
        warn(
            "cache",
            "neither redis-server nor valkey-server is installed",
            "everything is computed each time; the box works all the same",
            "install one (Debian: apt-get install redis-server), or set cache.url: off",
        )
    ]


def helpers(_config: Config) -> list[Finding]:
    if (program := shutil.which("espeak-ng") or shutil.which("espeak")) is not None:
        return [ok("espeak", f"{program}, the demo talk gets a voice")]
    return [ok("espeak", "not installed; only the demo talk and tests of speech use it")]


def _embedded(config: Config) -> Finding:
    from bus.errors import ServerStartError
    from bus.selftest import MIN_VERSION
    from bus.server import find_binary

    try:
        program = find_binary(config.bus.binary)
    except ServerStartError as error:
        return fail("nats-server", "not found", "the box cannot start", str(error))
    least = ".".join(str(part) for part in MIN_VERSION)
    with tempfile.TemporaryDirectory(prefix="appliance-doctor-") as folder:
        started = _start_for_a_moment(program, Path(folder))
    if isinstance(started, str):
        return fail("nats-server", f"{program} does not start: {started}", "the box cannot start", "see bus.binary")
    version = str(started.get("version", "0"))
    if tuple(int(part) for part in version.split("-")[0].split(".")) < MIN_VERSION:
        return fail("nats-server", f"{program} is {version}", f"the box needs {least}", "see bus.binary")
    return ok("nats-server", f"{program} {version} starts")


def _start_for_a_moment(program: Path, folder: Path) -> dict[str, object] | str:
    """Start a server with JetStream on a free port, read its greeting, end it. An error comes back as text."""
    argv = [str(program), "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", str(folder), "--ports_file_dir", str(folder)]
    with (folder / "log").open("w+b") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while time.monotonic() < deadline and process.poll() is None:
                for ports in folder.glob("*.ports"):
                    with contextlib.suppress(ValueError, KeyError, IndexError):  # still being written
                        url = json.loads(ports.read_bytes())["nats"][0]
                        return _greeting("127.0.0.1", urlsplit(url).port or 0) or "it does not greet"
                time.sleep(0.02)
            log.seek(0)
            last = log.read().decode(errors="replace").strip().splitlines()[-1:]
            return last[0] if last else f"no answer within {START_TIMEOUT_S:g} s"
        finally:
            process.kill()
            process.wait()


def _joined(url: str) -> Finding:
    parts = urlsplit(url if "://" in url else f"nats://{url}")
    shown = f"{parts.hostname}:{parts.port or 4222}"
    greeting = _greeting(parts.hostname or "", parts.port or 4222)
    if greeting is None:
        return fail("nats-server", f"{shown} does not answer", "the box cannot start", "start it, or correct bus.url")
    if not greeting.get("jetstream"):
        return fail("nats-server", f"{shown} runs without JetStream", "events cannot be kept", "start it with -js")
    return ok("nats-server", f"{shown} answers, version {greeting.get('version')}")


def _port(config: Config) -> Finding:
    if config.bus.port == 0:
        return ok("port", "any free port is taken")
    port = config.bus.port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return _taken(port, str(error.strerror))
    return ok("port", f"{port} is free")


def _taken(port: int, reason: str) -> Finding:
    greeting = _greeting("127.0.0.1", port)
    if greeting is not None:
        found = f"{port} is taken by nats-server {greeting.get('version')}, {greeting.get('server_name')}"
        return warn(
            "port", found, "this box when it runs; else it cannot start", "see `appliance status`; set bus.port"
        )
    return fail("port", f"{port} cannot be had: {reason}", "the box cannot start", "set bus.port to a free port")


def _greeting(host: str, port: int) -> dict[str, object] | None:
    """The INFO line by which every nats-server greets, or None."""
    try:
        with socket.create_connection((host, port), ANSWER_TIMEOUT_S) as link, link.makefile("rb") as file:
            line = file.readline(64 * 1024)
        found = json.loads(line.removeprefix(b"INFO "))
        return found if isinstance(found, dict) else None
    except (OSError, ValueError):
        return None


def _external_cache(url: str) -> Finding:
    import redis

    shown = urlsplit(url).hostname or urlsplit(url).path
    client = redis.Redis.from_url(url, socket_timeout=ANSWER_TIMEOUT_S, socket_connect_timeout=ANSWER_TIMEOUT_S)
    try:
        client.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        return warn(
            "cache",
            f"{shown} does not answer: {error}",
            "everything is computed each time until it does",
            "start it, or correct cache.url",
        )
    finally:
        client.close()
    return ok("cache", f"{shown} answers")


def _version_line(argv: list[str]) -> str:
    answer = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    return next((word.removeprefix("v=") for word in answer.stdout.split() if word.startswith("v=")), "")
