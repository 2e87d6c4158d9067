"""What the processes of the peer share: where things lie, and one line for each thing that happened."""

from __future__ import annotations

import os
import time
from pathlib import Path

from msgspec import Raw, Struct

FOLDER_VARIABLE = "PEER_FOLDER"
CHANNEL = "events"
KEY = "ssot:1:"
"""Cache keys are named as ours."""


class Posted(Struct, kw_only=True):
    """The body of `POST /commits`: facts as stored, and commands as (stage, payload)."""

    events: list[Raw]
    commands: list[tuple[str, Raw]] = []
    ends: str | None = None
    """Store it only while this job is not ended (409 otherwise)."""


class Stored(Struct, kw_only=True):
    """The answer."""

    first_seq: int


def folder() -> Path:
    return Path(os.environ[FOLDER_VARIABLE])


def database() -> Path:
    return folder() / "appliance.db"


def socket() -> Path:
    return folder() / "r.sock"


class Times:
    """Appends `what id seconds` to a file of this process: written at once, so that a killed process has told all."""

    def __init__(self) -> None:
        path = folder() / f"times-{os.getpid()}.txt"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, what: str, ident: str) -> None:
        os.write(self._file, f"{what} {ident} {time.time():.6f}\n".encode())


def read_times(where: Path) -> dict[str, dict[str, list[float]]]:
    """Of all processes: what → event id → moments, the earliest first."""
    found: dict[str, dict[str, list[float]]] = {}
    for path in where.glob("times-*.txt"):
        for line in path.read_text().splitlines():
            what, ident, moment = line.split()
            found.setdefault(what, {}).setdefault(ident, []).append(float(moment))
    for moments in found.values():
        for times in moments.values():
            times.sort()
    return found
