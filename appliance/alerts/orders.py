"""What people ordered: silences with an expiry, and acknowledgements. `data/run/alert-orders.json`.

Commands and the web interface write it under a lock; the monitor reads it when it has changed. Everything stays on
record until it has expired: who, why, until when.
"""

from __future__ import annotations

import fcntl
import fnmatch
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from appliance.errors import ApplianceError
from bus.ids import new_id
from stages.folder import publish

FILE = "alert-orders.json"
MAX_SILENCES = 200
MAX_ACKS = 500
ACK_KEPT_S = 90 * 86400.0
MAX_SILENCE_S = 90 * 86400.0


class OrdersDamaged(ApplianceError):
    """The file of silences and acknowledgements cannot be read."""


class Silence(Struct, frozen=True, kw_only=True):
    """Alerts that tell nobody until `until_s`; they are still raised, stored and shown. Times are Unix seconds."""

    id: str
    rule: str
    """A rule id, with `*` and `?` as wildcards."""
    device: str = "*"
    until_s: float
    author: str
    reason: str
    made_s: float

    def matches(self, rule: str, device: str, wall_s: float) -> bool:
        return (
            wall_s < self.until_s
            and fnmatch.fnmatchcase(rule, self.rule)
            and fnmatch.fnmatchcase(device.lower(), self.device.lower())
        )


class Ack(Struct, frozen=True, kw_only=True):
    """Somebody has seen the alert. It counts for what was raised before `at_s`."""

    alert: str
    at_s: float
    author: str
    note: str = ""


class Orders(Struct, frozen=True, kw_only=True):
    """The file."""

    version: int = 1
    silences: tuple[Silence, ...] = ()
    acks: tuple[Ack, ...] = ()

    def acked_s(self) -> dict[str, float]:
        """Alert id to the time of its last acknowledgement."""
        return {ack.alert: ack.at_s for ack in sorted(self.acks, key=lambda ack: ack.at_s)}

    def silence_of(self, rule: str, device: str, wall_s: float) -> Silence | None:
        return next((silence for silence in self.silences if silence.matches(rule, device, wall_s)), None)


def path_of(data_dir: Path) -> Path:
    return data_dir / "run" / FILE


def read(data_dir: Path) -> Orders:
    """What stands in the file, nothing when there is none. Raises `OrdersDamaged`."""
    path = path_of(data_dir)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Orders)
    except FileNotFoundError:
        return Orders()
    except (OSError, msgspec.DecodeError) as error:
        raise OrdersDamaged(
            f"{path} cannot be read ({error}): delete it; silences and acknowledgements are lost"
        ) from error


def silence(
    data_dir: Path, rule: str, *, for_s: float, author: str, reason: str, device: str = "*", wall_s: float | None = None
) -> Silence:
    """Adds a silence. Raises ValueError for one that is too long, has no reason or is one too many."""
    now = time.time() if wall_s is None else wall_s
    if not 0 < for_s <= MAX_SILENCE_S:
        raise ValueError(f"a silence lasts more than 0 seconds and at most {MAX_SILENCE_S / 86400:.0f} days")
    if not reason.strip():
        raise ValueError("a silence needs a reason: who comes later must know why")
    made = Silence(id=new_id(), rule=rule, device=device, until_s=now + for_s, author=author, reason=reason, made_s=now)

    def add(orders: Orders) -> Orders:
        if len(orders.silences) >= MAX_SILENCES:
            raise ValueError(f"there are {MAX_SILENCES} silences already: end some first")
        return replace(orders, silences=(*orders.silences, made))

    _change(data_dir, now, add)
    return made


def end_silence(data_dir: Path, silence_id: str, *, wall_s: float | None = None) -> bool:
    """Takes a silence away; whether it was there."""
    found = False

    def remove(orders: Orders) -> Orders:
        nonlocal found
        found = any(silence.id == silence_id for silence in orders.silences)
        return replace(orders, silences=tuple(s for s in orders.silences if s.id != silence_id))

    _change(data_dir, time.time() if wall_s is None else wall_s, remove)
    return found


def acknowledge(data_dir: Path, alert: str, *, author: str, note: str = "", wall_s: float | None = None) -> Ack:
    """Records that `author` has seen the alert."""
    now = time.time() if wall_s is None else wall_s
    ack = Ack(alert=alert, at_s=now, author=author, note=note)

    def add(orders: Orders) -> Orders:
        others = tuple(one for one in orders.acks if one.alert != alert)
        return replace(orders, acks=(*others, ack)[-MAX_ACKS:])

    _change(data_dir, now, add)
    return ack


def _change(data_dir: Path, now: float, change: Callable[[Orders], Orders]) -> None:
    with _locked(path_of(data_dir)) as path:
        orders = read(data_dir)
        orders = replace(
            orders,
            silences=tuple(silence for silence in orders.silences if silence.until_s > now),
            acks=tuple(ack for ack in orders.acks if now - ack.at_s < ACK_KEPT_S),
        )
        changed = change(orders)
        with publish(path) as part:
            part.write_bytes(msgspec.json.encode(changed))


@contextmanager
def _locked(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path
