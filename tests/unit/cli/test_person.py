"""Lengths of time as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest

from appliance.cli.person import length_s


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("8h", 28_800), ("7d", 604_800)])
def test_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert length_s(text, "--for") == seconds


@pytest.mark.parametrize("text", ["", "8", "0h", "-1h", "1.5h", "8 h", "8w", "36501d", "9" * 30 + "d"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"for example 8h|at most"):
        length_s(text, "--for")


def test_the_longest_stays_in_the_calendar() -> None:
    longest = timedelta(seconds=length_s("36500d", "--for"))
    assert datetime.now(UTC) - longest < datetime.now(UTC) + longest
