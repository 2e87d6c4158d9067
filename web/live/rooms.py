"""Rooms: who shows what, who may enter, and how many events each has shown.

    admin          every event                          administrators
    monitoring     machine, workers, alerts, failures   operators and above
    jobs           what happens to jobs and clips       everybody who is logged in
    job.<id>       one job                              everybody who is logged in

Which event belongs to which room stands in the event table (`appliance.dispatcher.table`).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

from appliance.dispatcher.table import TABLE

if TYPE_CHECKING:
    from web.live.client import Client

Role = Literal["viewer", "operator", "admin"]
RANK: dict[str, int] = {"viewer": 0, "operator": 1, "admin": 2}
FIXED: dict[str, Role] = {"admin": "admin", "monitoring": "operator", "jobs": "viewer"}
"""The rooms that always exist, with the least role that may enter."""
JOB_ROLE: Role = "viewer"
_SHOWN = {
    tuple(kind.split(":")): (tuple(room for room in row.rooms if room != "job"), "job" in row.rooms)
    for kind, row in TABLE.items()
}
"""By noun and verb: the fixed rooms, and whether the job's own is one more."""
_JOB_ROOM = re.compile(r"job\.[a-z0-9_-]{1,64}\Z")


def role_for(room: str) -> Role | None:
    """The least role that may enter `room`; None when there is no such room."""
    return FIXED.get(room) or (JOB_ROLE if _JOB_ROOM.match(room) else None)


def may_enter(role: str, room: str) -> bool:
    """Whether a reader of this role may enter. Raises nothing: unknown roles and rooms may not."""
    least = role_for(room)
    return least is not None and RANK.get(role, -1) >= RANK[least]


def rooms_of(subject: str) -> tuple[str, ...]:
    """The rooms that show the fact stored at `subject`, `evt.<noun>.<verb>.<id>[.<clip>]`, without decoding it.

    A type that this version's table does not know is shown to administrators only.
    """
    parts = subject.split(".", 4)
    shown = _SHOWN.get((parts[1], parts[2])) if len(parts) > 3 else None
    if shown is None:
        return ("admin",)
    fixed, in_job = shown
    return (*fixed, f"job.{parts[3]}") if in_job else fixed


class Rooms:
    """Members and counters. A job's room is forgotten when it is empty and `max_idle` later ones had events."""

    def __init__(self, max_idle: int) -> None:
        self._max_idle = max_idle
        self._counts: OrderedDict[str, int] = OrderedDict.fromkeys(FIXED, 0)
        self._members: dict[str, set[Client]] = {}

    def count(self, room: str) -> int:
        """How many events the room has shown."""
        return self._counts.get(room, 0)

    def number(self, rooms: tuple[str, ...]) -> dict[str, int]:
        """Counts one event in each of the rooms; its number in each."""
        counts = self._counts
        numbers = {}
        for room in rooms:
            numbers[room] = counts[room] = counts.get(room, 0) + 1
            if room not in FIXED:
                counts.move_to_end(room)
        if len(counts) > self._max_idle + len(FIXED):
            self._forget()
        return numbers

    def _forget(self) -> None:
        for room in list(self._counts):
            if len(self._counts) <= self._max_idle + len(FIXED):
                return
            if room not in FIXED and room not in self._members:
                del self._counts[room]

    def members(self, rooms: tuple[str, ...]) -> set[Client]:
        """Everybody who is in any of the rooms. Not to be changed."""
        found = [members for room in rooms if (members := self._members.get(room)) is not None]
        match found:
            case []:
                return set()
            case [only]:
                return only
            case _:
                return found[0].union(*found[1:])

    def enter(self, client: Client, room: str) -> None:
        self._members.setdefault(room, set()).add(client)

    def leave(self, client: Client, room: str) -> None:
        members = self._members.get(room)
        if members is not None:
            members.discard(client)
            if not members:
                del self._members[room]

    def sizes(self) -> dict[str, int]:
        """Readers by room, the jobs' rooms together as `job.*`. From any thread: what is looked at is a copy."""
        sizes = dict.fromkeys((*FIXED, "job.*"), 0)
        for room, members in tuple(self._members.items()):
            sizes[room if room in FIXED else "job.*"] += len(members)
        return sizes
