"""Lines of the tap for hostile, foreign and odd content."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from bus.events import JobCreated, JobSource, encode
from bus.ids import new_id
from bus.stored import Stored
from bus.tap import json_line, line

JOB = new_id()


def stored(data: bytes) -> Stored:
    return Stored(812, f"evt.job.created.{JOB}", data, "2026-05-01T09:41:07.12Z")


def test_a_known_event() -> None:
    event = JobCreated(
        job=JOB,
        ts=datetime(2026, 5, 1, 9, 41, 7, 120_000, tzinfo=UTC),
        origin=JobSource(kind="file", location="/v/a talk.mp4", name="a talk.mp4"),
    )
    text = line(stored(encode(event)))
    assert text.startswith(f"     812  09:41:07.120  job:created        {JOB}  origin=")
    assert "owner=local" in text
    assert "\n" not in text


def test_control_characters_never_reach_the_terminal() -> None:
    for name in ("\x1b[2Jgone", "a\nb", "a\rb", "\x9b31m", "\u202emoc"):
        data = msgspec.json.encode({"type": "job:created\x1b[0m", "job": name, "name": name, "deep": {"a": [name]}})
        text = line(stored(data))
        assert text.isprintable(), repr(text)


def test_a_type_of_another_version_is_shown_as_it_is() -> None:
    data = msgspec.json.encode({"type": "moon:landed", "ts": "2026-05-01T09:41:07Z", "crew": 3})
    assert "moon:landed" in line(stored(data))
    assert "crew=3" in line(stored(data))
    assert msgspec.json.decode(json_line(stored(data)))["event"]["crew"] == 3


def test_long_values_are_cut() -> None:
    assert len(line(stored(msgspec.json.encode({"type": "x:y", "text": "word " * 10_000})))) < 300


def test_bytes_that_are_not_json_are_said_to_be() -> None:
    for data in (b"\xff\xfe", b"", b"[1]", b"7"):
        assert "bytes that are not JSON" in line(stored(data))
        assert msgspec.json.decode(json_line(stored(data)))["seq"] == 812
