"""What can go wrong on the bus.

BusError
├── Retryable
│   ├── BusUnavailable      no connection, or no answer in time: the outcome is unknown, retry with the same id
│   └── StorageRefused      the stream is full or its disk failed: nothing was stored
└── Permanent
    ├── Stale               compare-and-set refused: somebody else wrote first (`.current` says where)
    ├── Duplicate           a message with this id is already stored
    ├── ProvisioningError   a stream or consumer exists with settings that cannot be changed in place
    ├── ServerStartError    nats-server did not start or failed its self-test
    ├── Denied              this user may not do that
    ├── Gap                 facts after the reader's cursor are gone from the stream
    ├── NewEpoch            the stream is not the one the cursor belongs to: it was created anew
    └── UndecodableEvent    bytes that are not an event of ours
"""

from __future__ import annotations


class BusError(Exception):
    """Root of everything raised by `bus`. Its message tells the reader what to do next."""


class Retryable(BusError):
    """Worth another try later, with the same message id."""


class Permanent(BusError):
    """The same call will fail again."""


class BusUnavailable(Retryable):
    """No answer from nats-server in time; the message may or may not be stored."""


class StorageRefused(Retryable):
    """The server could not store the message: limits reached or a disk error."""


class Stale(Permanent):
    """A compare-and-set was refused because the subject moved on."""

    def __init__(self, message: str, current: int | None = None) -> None:
        super().__init__(message)
        self.current = current


class Duplicate(Permanent):
    """The message id was seen inside the duplicate window: the work is already recorded."""


class ProvisioningError(Permanent):
    """A stream or consumer differs from its declaration in a way that needs a person."""


class ServerStartError(Permanent):
    """The embedded nats-server did not come up as configured."""


class Denied(Permanent):
    """The server refused the operation for this user."""


class Gap(Permanent):
    """Facts after the cursor were removed (age, size) before they were read: rebuild from a second copy."""

    def __init__(self, message: str, after_seq: int, first_seq: int) -> None:
        super().__init__(message)
        self.after_seq = after_seq
        self.first_seq = first_seq


class NewEpoch(Permanent):
    """The stream was created anew, so sequences of before mean nothing in it."""

    def __init__(self, message: str, epoch: str) -> None:
        super().__init__(message)
        self.epoch = epoch


class UndecodableEvent(Permanent):
    """A stored message is not an event or command of this version."""
