"""One thing the doctor found."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

State = Literal["OK", "WARN", "FAIL"]


class Finding(Struct, frozen=True, kw_only=True):
    """`FAIL`: the box cannot work. `WARN`: it works, less well or less safely. `OK`: nothing to do."""

    name: str
    state: State
    found: str
    """The fact, with its figure."""
    meaning: str = ""
    action: str = ""


def ok(name: str, found: str) -> Finding:
    return Finding(name=name, state="OK", found=found)


def warn(name: str, found: str, meaning: str, action: str) -> Finding:
    return Finding(name=name, state="WARN", found=found, meaning=meaning, action=action)


def fail(name: str, found: str, meaning: str, action: str) -> Finding:
    return Finding(name=name, state="FAIL", found=found, meaning=meaning, action=action)
