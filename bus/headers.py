"""Header blocks of the NATS protocol, `NATS/1.0[ status[ description]]`, a line for each header, an empty line.

What the client library makes of them, in a fraction of its time: it looks at each character of each header's name in
Python, and names come from a small vocabulary, so each is looked at once and remembered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from nats.errors import BadHeaderError

STATUS = "Status"
DESCRIPTION = "Description"
_VERSION = b"NATS/1.0"
_LINE_END = b"\r\n"
_NAMES = 512
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""A header's name, RFC 7230 section 3.2.6."""


def block(headers: Mapping[str, str]) -> bytes:
    """`headers` as they are sent. Line ends inside a value become spaces; a header without a name is left out.

    Raises `nats.errors.BadHeaderError` for a name that is none.
    """
    lines = ["NATS/1.0\r\n"]
    for name, value in headers.items():
        if key := _sent_name(name):
            value = value.strip()
            if "\r" in value or "\n" in value:
                value = value.replace("\r", " ").replace("\n", " ")
            lines.append(f"{key}: {value}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode()


def parsed(raw: bytes) -> dict[str, str]:
    """The headers of a block; a status and its description are `Status` and `Description`. Raises nothing."""
    headers: dict[str, str] = {}
    first, _, rest = raw[len(_VERSION) :].partition(_LINE_END)
    if first:
        status, _, description = first[1:].decode("utf-8", "replace").partition(" ")
        if status.isdigit():
            headers[STATUS] = status
        if description:
            headers[DESCRIPTION] = description
    for line in rest.split(_LINE_END):
        name, colon, value = line.partition(b":")
        if colon and (key := _name(name)) is not None:
            headers[key] = value.strip().decode("utf-8", "replace")
    return headers


@lru_cache(_NAMES)
def _sent_name(name: str) -> str:
    key = name.strip()
    if key and not _TOKEN.fullmatch(key):
        raise BadHeaderError(key)
    return key


@lru_cache(_NAMES)
def _name(raw: bytes) -> str | None:
    """A header's name; None for what cannot be one."""
    try:
        name = raw.strip().decode("ascii")
    except UnicodeDecodeError:
        return None
    return None if any(character.isspace() for character in name) else name
