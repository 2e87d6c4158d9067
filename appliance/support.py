"""The support bundle: what somebody who helps needs to see of a box, and nothing that is its owner's.

Names of videos, their addresses, words and pictures are left out; passwords, tokens and addresses of notifications are
masked in settings and logs. What is in it can be read before it is given away: it is a small `.tar.gz` of text files.
"""

from __future__ import annotations

import io
import platform
import re
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from appliance.config import Config
from appliance.private import MASK, Redactor, publish_private
from appliance.sqlite import sqlite3

LOG_BYTES = 256 * 1024
"""Of each log, its end."""
MAX_LOGS = 40
MAX_FACTS = 1000
# fmt: off
_KEPT = frozenset({
    "type", "id", "ts", "source", "job", "clip", "v", "stage", "attempt", "attempts", "claim", "worker", "seconds",
    "device", "notes", "error", "code", "reason", "level", "depth", "oldest_s", "severity", "alert", "message",
    "value", "threshold", "rule", "transition", "muted_by", "service", "restarts", "pid", "before", "after",
    "target", "holder", "mode", "by", "until", "next_try_at", "size_bytes", "kind", "clips", "candidates", "words",
    "rough", "model", "detector", "tracks", "shots", "layouts", "encoder", "duration_s", "width", "height", "fps",
    "video_codec", "audio_codec", "real_time_factor", "clips_ready", "clips_failed", "down_s", "action",
})
# fmt: on
"""Fields of events that name nobody's video."""
_TABLES = {
    "services": "SELECT * FROM services ORDER BY service",
    "alerts": "SELECT * FROM alerts ORDER BY since DESC LIMIT 200",
    "workers": "SELECT * FROM workers ORDER BY since DESC LIMIT 100",
    "failed_actions": "SELECT * FROM failed_actions ORDER BY id DESC LIMIT 200",
    "failed_attempts": "SELECT * FROM attempts WHERE outcome IN ('failed', 'retrying') ORDER BY seq DESC LIMIT 200",
    "job_states": "SELECT state, error_code, count(*) AS count FROM jobs GROUP BY state, error_code",
    "hours": "SELECT * FROM hours ORDER BY hour DESC LIMIT 72",
    "stage_hours": "SELECT * FROM stage_hours ORDER BY hour DESC LIMIT 300",
    "refused_files": "SELECT code, count(*) AS count FROM files WHERE state = 'refused' GROUP BY code",
    "meta": "SELECT key, value FROM meta",
}
_README = """\
Support bundle of an AgentOS Appliance, made {at}.

versions.json   the program, Python, the kernel, installed packages
doctor.json     what `appliance doctor` found
settings.json   the settings in effect; secrets are {mask}
database.json   services, alerts, workers, failures and figures
events.jsonl    the last {facts} events, without names, paths and titles
logs/           the end of each log, secrets masked
problems.txt    what could not be collected, when something could not

Not in it: videos, clips, transcripts, names and addresses of videos, passwords. Log lines and error texts may name
files where an error did: read them before you give the bundle away.
"""


def bundle(config: Config, file: Path, *, examine: Callable[[Config], list[Any]]) -> list[str]:
    """Write the bundle to `file` (mode 0600), whole or not at all; returns what could not be collected. Blocking.

    The box may run, rest, or be broken: each part that fails is named and left out. `examine` is the doctor. OSError.
    """
    redactor = Redactor(_secrets(config))
    parts: list[tuple[str, Callable[[], bytes]]] = [
        ("versions.json", lambda: _json(_versions())),
        ("doctor.json", lambda: _json(redactor.value(msgspec.to_builtins(examine(config))))),
        ("settings.json", lambda: _json(_settings(config, redactor))),
        ("database.json", lambda: _json(redactor.value(_database(config.data_dir / "appliance.db")))),
        ("events.jsonl", lambda: b"".join(_events(config.data_dir / "appliance.db", redactor))),
        *((f"logs/{path.name}", lambda path=path: _end(path, redactor)) for path in _logs(config.logs_dir)),
    ]
    problems: list[str] = []
    with publish_private(file) as out, tarfile.open(fileobj=out, mode="w:gz") as tar:
        about = _README.format(at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", mask=MASK, facts=MAX_FACTS)
        _add(tar, "README.txt", about.encode())
        for name, make in parts:
            try:
                data = make()
            except Exception as error:  # noqa: BLE001 - a broken box is when a bundle is needed
                problems.append(redactor.text(f"{name}: {type(error).__name__}: {error}"))
                continue
            _add(tar, name, data)
        if problems:
            _add(tar, "problems.txt", "\n".join(problems).encode())
    return problems


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    head = tarfile.TarInfo(f"support/{name}")
    head.size, head.mode, head.mtime = len(data), 0o600, int(time.time())
    tar.addfile(head, io.BytesIO(data))


def _secrets(config: Config) -> Iterator[str]:
    """Everything secret that this box knows in plain."""
    for url in (*config.notify.urls, config.bus.url or "", config.cache.url):
        try:
            parts = urlsplit(url)
        except ValueError:  # a bracket in a password
            yield from re.split("[/?#@:&=]+", url.partition("://")[2])
            continue
        yield from (parts.password or "", parts.username or "")
        if url in config.notify.urls:  # topics, chat ids and webhook paths are what keeps others out
            yield from (parts.netloc, *parts.path.split("/"), parts.query)
    try:
        kept = msgspec.json.decode((config.data_dir / "nats" / "secrets.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return
    yield from kept.get("passwords", {}).values()


def _settings(config: Config, redactor: Redactor) -> Any:
    plain = msgspec.json.decode(msgspec.json.encode(config, enc_hook=str))
    plain["notify"]["urls"] = [f"{url.partition('://')[0]}://{MASK}" for url in config.notify.urls]
    return redactor.value(plain)


def _versions() -> dict[str, Any]:
    return {
        "appliance": metadata.version("agentos-appliance"),
        "python": sys.version,
        "platform": platform.platform(),
        "libc": platform.libc_ver(),
        "sqlite": sqlite3.sqlite_version,
        "packages": {found.name: found.version for found in metadata.distributions()},
    }


def _database(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with closing(_reader(path)) as db:
        for name, query in _TABLES.items():
            try:
                found[name] = [dict(row) for row in db.execute(query)]
            except sqlite3.Error as error:
                found[name] = str(error)
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        found["rows"] = {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}  # noqa: S608
        found["schema"] = db.execute("PRAGMA user_version").fetchone()[0]
    found["bytes"] = path.stat().st_size
    return found


def _events(path: Path, redactor: Redactor) -> Iterator[bytes]:
    with closing(_reader(path)) as db:
        rows = db.execute("SELECT seq, payload FROM events ORDER BY seq DESC LIMIT ?", (MAX_FACTS,)).fetchall()
    for row in reversed(rows):
        try:
            event = msgspec.json.decode(row["payload"])
        except msgspec.DecodeError:
            event = {"type": "unreadable"}
        kept = {key: value for key, value in event.items() if key in _KEPT}
        yield msgspec.json.encode({"seq": row["seq"], **redactor.value(kept)}) + b"\n"


def _reader(path: Path) -> sqlite3.Connection:
    from appliance.store.database import open_reader

    return open_reader(path)


def _logs(folder: Path) -> Iterable[Path]:
    """The logs of the box's processes, the newest first. Those of jobs hold names and stay here."""
    try:
        found = [path for path in folder.iterdir() if path.is_file() and not path.is_symlink()]
    except OSError:
        return []
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)[:MAX_LOGS]


def _end(path: Path, redactor: Redactor) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - LOG_BYTES))
        text = file.read(LOG_BYTES).decode(errors="replace")
    if size > LOG_BYTES:
        text = text.partition("\n")[2]
    return redactor.text(text).encode()


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=1)
