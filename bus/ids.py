"""Identifiers: lower-case ULIDs, sortable by time, safe inside a subject."""

from __future__ import annotations

import re

from ulid import ULID

ID_PATTERN = r"^[0-9a-hjkmnp-tv-z]{26}$"
_ID = re.compile(ID_PATTERN)


def new_id() -> str:
    """A new 26-character lower-case ULID."""
    return str(ULID()).lower()


def id_of(digest: bytes) -> str:
    """The same id for the same `digest` (of 16 bytes or more): for facts that are said once for one content."""
    return str(ULID.from_bytes(digest[:16])).lower()


def is_id(text: str) -> bool:
    """Whether `text` has the form of an id of ours."""
    return _ID.match(text) is not None
