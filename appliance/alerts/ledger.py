"""The monitor's memory of its alerts over a restart: `data/run/alerts.json`, written by nobody else."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance.alerts.engine import Entry, after_restart
from stages.folder import publish

log = logging.getLogger(__name__)
FILE = "alerts.json"


class Kept(Struct, frozen=True, kw_only=True):
    """The file. Monotonic times in it mean something within the same boot only."""

    version: int = 1
    boot: str
    entries: list[Entry]


def boot_id() -> str:
    """The kernel's id of this boot; empty where it has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def load(data_dir: Path, now: float) -> list[Entry]:
    """What was raised when the monitor ended; [] the first time and when the file is damaged (which is logged)."""
    path = data_dir / "run" / FILE
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        log.warning("the alerts of before cannot be read: they are raised anew", extra={"error": str(error)})
        return []
    return after_restart(kept.entries, now, same_boot=kept.boot != "" and kept.boot == boot_id())


def save(data_dir: Path, entries: list[Entry]) -> None:
    """Blocking, to disk. Raises OSError."""
    path = data_dir / "run" / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with publish(path) as part:
        part.write_bytes(msgspec.json.encode(Kept(boot=boot_id(), entries=entries)))
