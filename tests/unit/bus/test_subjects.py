"""Subjects of facts, commands and schedules."""

from __future__ import annotations

import fnmatch
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.events import EVENT_TYPES, STAGES, Command, Event
from bus.ids import new_id
from bus.subjects import (
    command_subject,
    event_subject,
    item_filter,
    job_filters,
    live,
    pattern,
    pending_filters,
    schedule_subject,
    telemetry_subject,
    token,
    type_of,
    type_prefix,
)

JOB = new_id()
TOKENS = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-", min_size=1, max_size=40)
SUBJECT_IDS = {
    "file:uploaded": ("file", "f1"),
    "file:refused": ("file", "f1"),
    "worker:online": ("worker", "w-1"),
    "worker:offline": ("worker", "w-1"),
    "worker:scaled": ("stage", "cut"),
    "queue:threshold": ("stage", "cut"),
    "alert:raised": ("alert", "cpu-high"),
    "alert:cleared": ("alert", "cpu-high"),
    "service:down": ("service", "web"),
    "service:up": ("service", "web"),
}


def sample(kind: type[Event], **fields: Any) -> Event:
    """An event of `kind` with any values for what it needs."""
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.required:
            values[field.name] = _any_value(field.type)
    return kind(**{**values, **fields})


_VALUES: tuple[Any, ...] = (
    *("cut", "run", "scratch", "x", 1, 0.5, True, [], "2026-01-01T00:00:00Z", "ok", "upload", "warning", None),
    {"kind": "url", "location": "u", "name": "n"},
)


def _any_value(kind: Any) -> Any:
    for value in _VALUES:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError:
            continue
    raise AssertionError(f"no sample for {kind}")


def matches(subject: str, subject_filter: str) -> bool:
    have, want = subject.split("."), subject_filter.split(".")
    return len(have) == len(want) and all(fnmatch.fnmatchcase(h, w) for h, w in zip(have, want, strict=True))


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_every_type_has_its_subject_and_way_back(name: str) -> None:
    noun, verb = name.split(":")
    kind = EVENT_TYPES[name]
    field, ident = SUBJECT_IDS.get(name, ("job", JOB))
    if name.startswith("cache"):
        event, ident = sample(kind), "cache"
    elif name in ("user:action", "file:deleted", "file:pinned", "file:unpinned"):
        event = sample(kind, job=JOB)
        ident = event.id
        assert not matches(event_subject(event), item_filter(JOB)), "no part of a job's history"
    elif name == "control:changed":
        event, ident = sample(kind, target="intake", holder="operator"), "intake.operator"
    else:
        event = sample(kind, **{field: ident})
    assert event_subject(event) == f"evt.{noun}.{verb}.{ident}"
    assert type_of(event_subject(event)) == name
    assert type_prefix(name) == f"evt.{noun}.{verb}"


@pytest.mark.parametrize("name", [name for name in EVENT_TYPES if name.startswith(("job", "clip"))])
def test_a_clip_level_fact_belongs_to_the_clip_only(name: str) -> None:
    subject = event_subject(sample(EVENT_TYPES[name], job=JOB, clip=3))
    assert matches(subject, item_filter(JOB, 3))
    assert not matches(subject, item_filter(JOB))
    assert not matches(subject, item_filter(JOB, 30))
    assert [matches(subject, one) for one in job_filters(JOB)] == [False, True]


@pytest.mark.parametrize("stage", STAGES)
def test_commands_and_their_schedules_are_found_by_job(stage: Any) -> None:
    for clip in (None, 2):
        command = Command(stage=stage, job=JOB, clip=clip)
        tail = f"{JOB}.2" if clip else JOB
        assert command_subject(command) == f"cmd.{stage}.{tail}"
        assert schedule_subject(command) == f"sched.{stage}.{tail}.{command.id}"
        for subject in (command_subject(command), schedule_subject(command)):
            assert [matches(subject, one) for one in pending_filters(JOB)].count(True) == 1
            assert not any(matches(subject, one) for one in pending_filters(new_id()))


@pytest.mark.parametrize("bad", ["", "a.b", "A", "ä", "a b", "*", ">", "a\n", "$js", "a/b", "x" * 3 + "\0"])
def test_what_may_not_stand_in_a_subject_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="worker id"):
        event_subject(sample(EVENT_TYPES["worker:online"], worker=bad))
    with pytest.raises(ValueError, match="job id"):
        item_filter(bad)
    with pytest.raises(ValueError, match="job id"):
        pending_filters(bad)
    with pytest.raises(ValueError, match="command id"):
        schedule_subject(Command(stage="cut", job=JOB, id=bad))


def test_a_job_fact_without_a_job_is_refused() -> None:
    with pytest.raises(ValueError, match="job:created needs a job id"):
        event_subject(sample(EVENT_TYPES["job:created"]))
    with pytest.raises(ValueError, match="start at 1"):
        item_filter(JOB, 0)


@given(TOKENS, TOKENS)
def test_tokens_pass_unchanged(one: str, two: str) -> None:
    assert token(one) == one
    assert pattern(f"evt.{one}.*.{two}.>") == f"evt.{one}.*.{two}.>"
    assert telemetry_subject(one, two) == f"tel.{one}.{two}"


@given(st.text(max_size=20))
def test_any_text_is_a_token_or_an_error(text: str) -> None:
    try:
        passed = token(text)
    except ValueError:
        return
    assert passed == text
    assert not set(text) & set(".*> \t\r\n\0")


@pytest.mark.parametrize("bad", ["", ".", "a..b", ">.a", "a.>.b", "a*", "evt.> ", "evt.>\n", "EVT.>"])
def test_bad_filters_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="subject filter"):
        pattern(bad)


def test_live_subjects() -> None:
    assert live("evt.>") == "live.evt.>"
    with pytest.raises(ValueError, match="only evt"):
        live("cmd.>")
    with pytest.raises(ValueError, match="not the subject of a fact"):
        type_of("cmd.cut.x")
    with pytest.raises(ValueError, match="noun:verb"):
        type_prefix("created")
