"""What may become a job, and what is said about the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import IntakeRefused
from appliance.intake import MAX_NAME_BYTES, display_name, source_of


def test_a_file_is_told_again_until_it_changes(tmp_path: Path) -> None:
    video = tmp_path / "a talk.mp4"
    video.write_bytes(b"x" * 10)
    first = source_of(str(video))
    assert (first.kind, first.name, first.location) == ("file", "a talk.mp4", str(video))
    assert source_of(str(tmp_path / "." / "a talk.mp4")) == first
    video.write_bytes(b"y" * 11)
    assert source_of(str(video)).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nowhere.mp4", "no such file"),
        (".", "not a file"),
        ("ftp://host/a.mp4", "http"),
        ("file:///etc/passwd", "http"),
        ("http://", "http"),
        ("https://user:pw@host/a.mp4", "password"),
        ("http://[bad/a.mp4", "not a URL"),
    ],
)
def test_what_is_refused_says_why(text: str, says: str) -> None:
    with pytest.raises(IntakeRefused, match=says):
        source_of(text)


def test_a_name_that_is_not_text_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"bad\xff.mp4")
    with open(path, "wb"):
        pass
    with pytest.raises(IntakeRefused, match="rename"):
        source_of(os.fsdecode(path))


@given(st.text(max_size=400))
def test_any_name_can_be_shown_and_stored(name: str) -> None:
    shown = display_name(name)
    assert shown
    assert len(shown.encode()) <= MAX_NAME_BYTES
    assert shown.isprintable()
    assert display_name(shown) == shown


def test_a_url_keeps_its_last_part_as_name() -> None:
    source = source_of("https://example.org/talks/one.mp4?x=1")
    assert (source.kind, source.name) == ("url", "one.mp4")
    assert source_of("https://example.org").name == "example.org"
