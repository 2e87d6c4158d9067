"""tus metadata: what can be asked for, and that nothing a client writes becomes more than text."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bus.events import JobOptions
from web.problems import Problem
from web.uploads.wanted import Wanted, file_name, parse_metadata, wanted


def encoded(**fields: str) -> str:
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in fields.items())


def test_all_that_can_be_asked_for() -> None:
    fields = parse_metadata(
        encoded(
            filename="talk.mp4",
            clips="3",
            length="15..60",
            language="pt-BR",
            captions="no",
            job="no",
            again="yes",
            sha256="AB" * 32,
            filetype="video/mp4",
        )
    )
    assert wanted(fields) == Wanted(
        name="talk.mp4",
        options=JobOptions(clips=3, min_length_s=15.0, max_length_s=60.0, language="pt-BR", captions=False),
        job=False,
        again=True,
        sha256="ab" * 32,
    )
    assert wanted({}) == Wanted(name="video")
    assert parse_metadata("is_confidential,filename dGFsaw==") == {"is_confidential": "", "filename": "talk"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("../../x.mp4", "x.mp4"),
        ("a\x00b.mp4", "a\ufffdb.mp4"),
        ("\u202egpm.exe", "\ufffdgpm.exe"),
        ("", "video"),
        ("/", "video"),
        ("<img src=x onerror=alert(1)>.mp4", "<img src=x onerror=alert(1)>.mp4"),
    ],
)
def test_a_name_is_text_for_people(name: str, shown: str) -> None:
    assert file_name(name) == shown


@given(st.text(max_size=400))
def test_any_name_can_be_shown_and_stored(name: str) -> None:
    shown = file_name(name)
    assert 1 <= len(shown.encode()) <= 255
    assert "/" not in shown
    assert "\\" not in shown
    assert all(c.isprintable() for c in shown)


def outcome(header: str | None = None, fields: dict[str, str] | None = None) -> Wanted | Problem:
    try:
        return wanted(parse_metadata(header) if header is not None else fields or {})
    except Problem as problem:
        return problem


@example("filename \xe9")
@given(st.text(max_size=200))
def test_any_header_is_read_or_refused(header: str) -> None:
    found = outcome(header)
    assert isinstance(found, Wanted) or found.status == 400


@example({"clips": "000000005" + "99999"})
@example({"clips": "000000001" + "0" * 5000})
@given(
    st.dictionaries(st.sampled_from(["clips", "length", "language", "captions", "job", "again", "sha256"]), st.text())
)
def test_any_wish_is_good_or_named(fields: dict[str, str]) -> None:
    found = outcome(fields=fields)
    if isinstance(found, Problem):
        assert found.more["field"] in fields
    else:
        assert found.options.clips is None or 1 <= found.options.clips <= 50
