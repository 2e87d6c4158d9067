"""Who may do what on the bus: one user for each role, with the rights its work needs and no more.

Stream verbs are listed one by one: `$JS.API.STREAM.*.>` would include DELETE and PURGE. A consumer may be created only
by name or not at all: a push consumer can be told to deliver stored messages to any subject, which is a way to
publish. Replies go to an inbox that only the role itself can read.

The server maps `$JS.box.API.…` to `$JS.API.…` before it looks at permissions, so they are written in the plain form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from msgspec import Struct

from bus.events import STAGES
from bus.streams import ADVISORY, ADVISORY_READER, DLQ, EVENTS, TELEMETRY, WORKERS_PREFIX, WORKERS_STREAM

Role = Literal["supervisor", "dispatcher", "worker", "web", "monitor", "cli", "tap"]
ROLES: tuple[Role, ...] = get_args(Role)


class Rights(Struct, frozen=True):
    """Subjects that a role may publish and subscribe, its own inbox apart."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...] = ()


_ALL_STREAMS = (EVENTS, TELEMETRY, DLQ, WORKERS_STREAM)
_LIVE = ("live.evt.>", "tel.>")
_WORK = ("cmd.>", "sched.>")


def _api(*verbs: str) -> tuple[str, ...]:
    return tuple(f"$JS.API.{verb}" for verb in verbs)


_READ = _api(*(f"{verb}.{stream}" for stream in _ALL_STREAMS for verb in ("STREAM.INFO", "STREAM.MSG.GET")))
_DIRECT = _api(*(f"DIRECT.GET.{stream}{tail}" for stream in _ALL_STREAMS for tail in ("", ".>")))
_QUEUES = _api(f"CONSUMER.INFO.{EVENTS}.*", f"CONSUMER.INFO.{DLQ}.*")
_TAKE_WORK = (
    *_api(*(f"CONSUMER.MSG.NEXT.{EVENTS}.{stage}" for stage in STAGES)),
    *_api(*(f"CONSUMER.CREATE.{EVENTS}.{stage}.cmd.{stage}.>" for stage in STAGES)),
    f"$JS.ACK.{EVENTS}.>",
)
_TAKE_ADVISORIES = (
    *_api(f"CONSUMER.MSG.NEXT.{DLQ}.{ADVISORY_READER}", f"CONSUMER.CREATE.{DLQ}.{ADVISORY_READER}.{ADVISORY}.>"),
    f"$JS.ACK.{DLQ}.>",
)
_REGISTER = (f"{WORKERS_PREFIX}>",)
_PURGE = _api(f"STREAM.PURGE.{EVENTS}")

RIGHTS: dict[Role, Rights] = {
    "supervisor": Rights(publish=(">",), subscribe=(">",)),
    "dispatcher": Rights(
        publish=("evt.>", *_WORK, "tel.>", "dlq.>", *_READ, *_DIRECT, *_QUEUES, *_TAKE_ADVISORIES, *_REGISTER, *_PURGE),
        subscribe=_LIVE,
    ),
    "worker": Rights(
        publish=(
            *("evt.job.>", "evt.clip.>", "evt.worker.>", "evt.alert.>"),
            *_WORK,
            *("tel.>", "dlq.>"),
            *_READ,
            *_DIRECT,
            *_QUEUES,
            *_TAKE_WORK,
            *_REGISTER,
        ),
        subscribe=_LIVE,
    ),
    "web": Rights(
        publish=(
            *("evt.job.>", "evt.clip.>", "evt.file.>", "evt.user.>", "evt.alert.>", "evt.cache.>", "evt.control.>"),
            *_WORK,
            "tel.>",
            *_READ,
            *_DIRECT,
            *_QUEUES,
        ),
        subscribe=_LIVE,
    ),
    "monitor": Rights(
        publish=("evt.alert.>", "evt.queue.>", "evt.service.>", "evt.worker.>", "tel.>", *_READ, *_DIRECT, *_QUEUES),
        subscribe=_LIVE,
    ),
    "cli": Rights(
        publish=(
            *("evt.job.>", "evt.clip.>", "evt.file.>", "evt.user.>", "evt.control.>"),
            *_WORK,
            *_READ,
            *_DIRECT,
            *_QUEUES,
            *_api("STREAM.NAMES", "STREAM.LIST"),
        ),
        subscribe=_LIVE,
    ),
    "tap": Rights(
        publish=(
            *_READ,
            *_DIRECT,
            *_QUEUES,
            *_api("STREAM.NAMES", "STREAM.LIST", "INFO"),
        ),
        subscribe=_LIVE,
    ),
}


def inbox(role: str) -> str:
    """The prefix of the role's reply subjects."""
    return f"_INBOX_{role}"


def users_block(passwords: Mapping[str, str]) -> str:
    """The account's `users` list for the server's configuration file."""
    lines = []
    for role in ROLES:
        rights = RIGHTS[role]
        publish = ", ".join(f'"{subject}"' for subject in rights.publish)
        subscribe = ", ".join(f'"{subject}"' for subject in (*rights.subscribe, f"{inbox(role)}.>"))
        lines.append(
            f'      {{ user: "{role}", password: "{passwords[role]}", permissions: {{\n'
            f"          publish: {{ allow: [{publish}] }}\n"
            f"          subscribe: {{ allow: [{subscribe}] }} }} }}"
        )
    return "[\n" + "\n".join(lines) + "\n    ]"
