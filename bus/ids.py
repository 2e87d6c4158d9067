"""Identifiers: lower-case ULIDs (https://github.com/ulid/spec), sortable by time, safe inside a subject."""

from __future__ import annotations

import os
import re
import time
from threading import Lock

ID_PATTERN = r"^[0-9a-hjkmnp-tv-z]{26}$"
_ID = re.compile(ID_PATTERN)
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32, as the specification demands, in lower case."""
_TIME_CHARS = 10
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_RANDOM_BYTES = 10
_STEP_MASK = (1 << 32) - 1
_lock = Lock()
_last = 0


def new_id() -> str:
    """A new 26-character lower-case ULID, above all that this process has made in the same millisecond."""
    global _last
    with _lock:
        made = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(_RANDOM_BYTES), "big")
        if made >> 80 == _last >> 80:
            # A step of chance: a forked process that goes on from the same id must not make the same ones.
            made = _last + 1 + (made & _STEP_MASK)
        _last = made
    return _text(made)


def id_of(digest: bytes) -> str:
    """The same id for the same `digest` (of 16 bytes or more): for facts that are said once for one content."""
    return _text(int.from_bytes(digest[:16], "big"))


def is_id(text: str) -> bool:
    """Whether `text` has the form of an id of ours."""
    return _ID.fullmatch(text) is not None


def made_ms(text: str) -> int | None:
    """When an id was made, milliseconds since 1970; None for what is none."""
    if not is_id(text):
        return None
    value = 0
    for char in text[:_TIME_CHARS]:
        value = value * len(_ALPHABET) + _ALPHABET.index(char)
    return value


def _text(value: int) -> str:
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -1, -10)])
