"""Messages as the stream keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec
from msgspec import Struct
from nats.js.api import Header

from bus.errors import UndecodableEvent
from bus.events import AnyEvent, Command, decode_command, decode_event
from bus.wire import Reply


class Stored(Struct, frozen=True):
    """A message with its place in the stream. Its bytes are decoded only when asked for."""

    seq: int
    subject: str
    data: bytes
    time: str = ""
    """When the server stored it, RFC 3339 UTC with nanoseconds."""
    message_id: str | None = None
    pending: int = 0
    """How many more there were that match, when it was read as one of several (`Bus.read`)."""

    @property
    def event(self) -> AnyEvent:
        """The fact. Raises UndecodableEvent for bytes that are not one of this version."""
        return decode_event(self.data)

    @property
    def command(self) -> Command:
        """The command. Raises UndecodableEvent for bytes that are not one of this version."""
        return decode_command(self.data)

    @property
    def stored_at(self) -> datetime:
        """`time` as a datetime, microseconds."""
        return msgspec.convert(self.time, datetime)


def from_reply(reply: Reply) -> Stored:
    """A message answered by a direct get. Raises UndecodableEvent without the headers."""
    return from_headers(reply.subject, reply.headers, reply.data)


def from_headers(subject: str, headers: Mapping[str, str], data: bytes) -> Stored:
    """A message that came on `subject` with the server's headers. Raises UndecodableEvent without them."""
    try:
        return Stored(
            seq=int(headers["Nats-Sequence"]),
            subject=headers["Nats-Subject"],
            data=data,
            time=headers["Nats-Time-Stamp"],
            message_id=headers.get(Header.MSG_ID.value),
            pending=int(headers.get("Nats-Num-Pending", 0)),
        )
    except (KeyError, ValueError) as error:
        raise UndecodableEvent(f"{subject} carries no stream position: {error}") from error
