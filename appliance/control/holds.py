"""Holds: who stopped which part of the box, why, and until when, as said by the last fact of each target and holder.

A target (intake, or a stage) stands as long as any of its holders does: `pause` lets nothing new begin, `drain` also
ends the stage's workers when they are done. A hold with an end is over at that moment, whoever notices.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, get_args

from msgspec import Struct

from bus.errors import UndecodableEvent
from bus.events import STAGES, ControlChanged
from bus.stored import Stored

Target = Literal["intake", "download", "transcribe", "moments", "faces", "crop", "cut"]
Mode = Literal["run", "pause", "drain"]
TARGETS: tuple[Target, ...] = get_args(Target)
STRENGTH: tuple[Mode, ...] = get_args(Mode)
"""Weakest first."""
OPERATOR = "operator"
"""The holder of what people ask for."""


class Hold(Struct, frozen=True, kw_only=True):
    """One standing hold, as its last fact says."""

    target: Target
    holder: str
    mode: Mode
    by: str
    reason: str
    said_at: datetime
    until: datetime | None
    """When it ends by itself; None: when its holder ends it."""
    seq: int
    """Place of the fact in the stream."""

    def is_over(self, now: datetime) -> bool:
        return self.mode == "run" or (self.until is not None and self.until <= now)

    def __str__(self) -> str:
        """For people: `paused by anna (operator) until 2026-01-31 14:00 UTC: disks are changed`."""
        word = {"pause": "paused", "drain": "drained", "run": "released"}[self.mode]
        who = self.by if self.by == self.holder else f"{self.by} ({self.holder})"
        until = "" if self.until is None else f" until {self.until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        return f"{word} by {who}{until}" + (f": {self.reason}" if self.reason else "")


def hold_of(stored: Stored) -> Hold | None:
    """The hold, or the end of one (mode `run`), that a fact says; None for any other fact."""
    try:
        event = stored.event
    except UndecodableEvent:
        return None
    if not isinstance(event, ControlChanged):
        return None
    return Hold(
        target=event.target,
        holder=event.holder,
        mode=event.mode,
        by=event.by,
        reason=event.reason,
        said_at=event.ts,
        until=event.until,
        seq=stored.seq,
    )


def strongest(holds: Iterable[Hold]) -> Mode:
    """What holds that are not over come to: `run` without any."""
    return max((hold.mode for hold in holds), key=STRENGTH.index, default="run")


def targets_of(name: str) -> tuple[Target, ...]:
    """The targets that a person's word means: one of them, or `all` for the six stages. Raises ValueError."""
    if name == "all":
        return STAGES
    found = tuple(target for target in TARGETS if target == name)
    if not found:
        raise ValueError(f"{name!r} cannot be held: give {', '.join(TARGETS)} or all")
    return found
