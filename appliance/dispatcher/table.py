"""The event table: what each event type means for the screens, the cache and the box. One row a type.

    rooms       whose live feeds show it: `admin`, `monitoring`, `jobs`, and `job` for the room of the event's own job
    invalidate  sections of the status document that it makes wrong; each type also changes `events`, the event flow
    warm        sections that are computed again at once, because somebody is looking at them
    actions     what the box does about it (`appliance.dispatcher.actions`)

`appliance events table` prints it. Invalidation, warming and actions follow when the fact is in the database; actions
run at least once, in the order of the facts of one job: each is idempotent (compare-and-set, message ids, "already
so"). The rooms are read by the live feed, which does not wait for the dispatcher.
"""

# ruff: noqa: E501 - the table is read by its columns
from __future__ import annotations

from typing import Literal, TypeVar, get_args

from msgspec import Struct

from bus.events import Event

Room = Literal["admin", "monitoring", "jobs", "job"]
Section = Literal[
    "dashboard",
    "agents_workers",
    "queue",
    "jobs",
    "clips",
    "analytics",
    "hardware",
    "alerts",
    "services",
    "cache",
    "websocket",
    "events",
]
Action = Literal[
    "queue_first",  # queue the job's first command, should whoever made the job have been killed before it could
    "complete_job",  # end the job when each of its clips is ready or failed
    "dead_letter",  # keep what was given up, with its reason, in the dead letter queue
    "sweep_parts",  # remove the part files of processes that are no more
    "forget_commands",  # remove what is queued for the cancelled job
    "remove_files",  # remove the job's folders
    "remove_file",  # remove what retention said is gone
    "measure_job",  # weigh the ended job's files: forecasts learn from it
    "retention_sweep",  # remove what may go: space is short, or a person asked
    "autoscale",  # does a stage need another worker, or one fewer? say so
    "hold_intake",  # close or open the intake, as a critical alert asks
    "check_workers",  # does each stage have its minimum? raise or clear the alert
    "replay_failed",  # run failed actions again, or drop them, as a person asked
]
ROOMS: tuple[Room, ...] = get_args(Room)
SECTIONS: tuple[Section, ...] = get_args(Section)
ACTIONS: tuple[Action, ...] = get_args(Action)

Word = TypeVar("Word", bound=str)


class Row(Struct, frozen=True):
    """What one event type starts."""

    rooms: tuple[Room, ...]
    invalidate: tuple[Section, ...]
    warm: tuple[Section, ...]
    actions: tuple[Action, ...]


def _words(text: str, known: tuple[Word, ...]) -> tuple[Word, ...]:
    words = text.split()
    if unknown := [word for word in words if word not in known]:
        raise ValueError(f"the event table names {unknown}: known are {known}")
    return tuple(word for word in known if word in words)


def _row(rooms: str, invalidate: str, warm: str = "", actions: str = "") -> Row:
    return Row(
        _words(rooms, ROOMS), _words(f"{invalidate} events", SECTIONS), _words(warm, SECTIONS), _words(actions, ACTIONS)
    )


# fmt: off
JOB, TROUBLE, OPS = "admin jobs job", "admin monitoring jobs job", "admin monitoring"
TABLE: dict[str, Row] = {
    #                        rooms         invalidate                              warm                        actions
    "file:uploaded":    _row("admin jobs", "dashboard"),
    "file:refused":     _row("admin jobs", "dashboard"),
    "file:deleted":     _row(OPS,          "dashboard jobs clips hardware",        "",                         "remove_file"),
    "file:pinned":      _row("admin jobs", "jobs clips"),
    "file:unpinned":    _row("admin jobs", "jobs clips"),
    "job:created":      _row(JOB,          "dashboard jobs queue analytics",       "dashboard jobs queue",     "queue_first"),
    "job:downloading":  _row(JOB,          "dashboard jobs queue agents_workers"),
    "job:transcribing": _row(JOB,          "dashboard jobs queue agents_workers"),
    "job:analyzing":    _row(JOB,          "dashboard jobs queue agents_workers"),
    "job:detecting":    _row(JOB,          "jobs clips queue agents_workers"),
    "job:cropping":     _row(JOB,          "jobs clips queue agents_workers"),
    "job:cutting":      _row(JOB,          "jobs clips queue agents_workers"),
    "job:downloaded":   _row(JOB,          "dashboard jobs queue analytics"),
    "job:transcribed":  _row(JOB,          "jobs queue analytics"),
    "job:analyzed":     _row(JOB,          "dashboard jobs queue analytics",       "jobs queue",               "complete_job"),
    "clip:planned":     _row(JOB,          "jobs clips queue"),
    "clip:detected":    _row("admin job",  "clips queue analytics"),
    "clip:cropped":     _row("admin job",  "clips queue analytics"),
    "clip:ready":       _row(JOB,          "dashboard jobs clips queue analytics", "dashboard jobs clips",     "complete_job"),
    "clip:failed":      _row(TROUBLE,      "dashboard jobs clips queue analytics", "dashboard jobs clips",     "complete_job dead_letter"),
    "job:retrying":     _row(TROUBLE,      "jobs clips queue analytics"),
    "job:completed":    _row(JOB,          "dashboard jobs clips queue analytics", "dashboard jobs",           "sweep_parts measure_job"),
    "job:failed":       _row(TROUBLE,      "dashboard jobs clips queue analytics", "dashboard jobs",           "dead_letter sweep_parts measure_job"),
    "job:cancelled":    _row(JOB,          "dashboard jobs clips queue analytics", "dashboard jobs queue",     "sweep_parts forget_commands measure_job"),
    "job:retried":      _row(JOB,          "dashboard jobs clips queue",           "dashboard jobs queue"),
    "job:deleted":      _row(JOB,          "dashboard jobs clips hardware",        "dashboard jobs clips",     "remove_files"),
    "worker:online":    _row(OPS,          "dashboard agents_workers",             "agents_workers",           "check_workers"),
    "worker:offline":   _row(OPS,          "dashboard agents_workers queue",       "dashboard agents_workers", "check_workers"),
    "worker:scaled":    _row(OPS,          "agents_workers queue",                 "agents_workers",           "check_workers"),
    "control:changed":  _row(OPS,          "dashboard queue agents_workers",       "dashboard queue"),
    "queue:threshold":  _row(OPS,          "dashboard queue alerts",               "dashboard queue",          "autoscale"),
    "alert:raised":     _row(OPS,          "dashboard alerts hardware",            "dashboard alerts",         "hold_intake retention_sweep"),
    "alert:cleared":    _row(OPS,          "dashboard alerts hardware",            "dashboard alerts",         "hold_intake"),
    "service:down":     _row(OPS,          "dashboard services",                   "dashboard services"),
    "service:up":       _row(OPS,          "dashboard services",                   "dashboard services"),
    "cache:degraded":   _row(OPS,          "dashboard cache"),
    "cache:restored":   _row(OPS,          "dashboard cache",                      "dashboard cache"),
    "user:action":      _row("admin",      "",                                     "",                         "replay_failed retention_sweep"),
}
# fmt: on

ACTION_TYPES: tuple[str, ...] = tuple(name for name, row in TABLE.items() if row.actions)
"""The event types that start an action."""
_NOTHING = Row((), (), (), ())


def row_of(event: Event) -> Row:
    """The event's row; one of nothing for a type that the table does not know."""
    return TABLE.get(str(event.__struct_config__.tag), _NOTHING)


def rooms_of(event: Event) -> tuple[str, ...]:
    """The names of the rooms that show this event: `admin`, `monitoring`, `jobs`, `job.<id>`."""
    named = (f"job.{event.job}" if room == "job" else room for room in row_of(event).rooms)
    return tuple(room for room in named if room != "job.None")


def lines() -> list[str]:
    """The table for people, with a heading."""
    cells = [("event", "rooms", "invalidate", "warm", "actions")]
    for name, row in TABLE.items():
        rooms = ("job.<id>" if room == "job" else room for room in row.rooms)
        columns = (rooms, row.invalidate, row.warm, row.actions)
        cells.append((name, *(" ".join(words) or "-" for words in columns)))  # type: ignore[arg-type]
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
