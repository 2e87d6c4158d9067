"""Who runs the command, as the audit trail names them, and lengths of time as people write them."""

from __future__ import annotations

import getpass
import re

import click

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MOST_S = 36_500 * 86_400
"""A longer time leads out of the calendar."""


def who() -> str:
    """The user's name; `local` when the system knows none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "local"


def length_s(text: str, option: str) -> float:
    """`90s`, `30m`, `8h`, `7d` as seconds. Raises `click.BadParameter` that names `option`."""
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if found is None or int(found[1]) == 0:
        raise click.BadParameter(f"{text!r}: write a number and s, m, h or d, for example 8h", param_hint=option)
    length = int(found[1]) * _UNITS_S[found[2]]
    if length > MOST_S:
        raise click.BadParameter(f"{text!r} is too long: 36500d at most", param_hint=option)
    return float(length)
