"""What leaves the box carries no secrets."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.private import MASK, Redactor, publish_private


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("connecting to nats://worker:hunter22@box:4222", "hunter22"),
        ("GET https://cdn.example/v.mp4?sig=abcdef123 failed", "abcdef123"),
        ("Authorization: Bearer eyJhbGciOi.x-y_z", "eyJhbGciOi.x-y_z"),
        ('{"password": "open sesame", "a": 1}', "open sesame"),
        ("smtp_password='pa ss' user=anna", "pa ss"),
        ("api_key=k-123456; next", "k-123456"),
        ("set-cookie: session=abc.def", "abc.def"),
        ("the topic is box-of-anna-77", "box-of-anna-77"),
    ],
)
def test_secrets_are_masked_in_texts(text: str, secret: str) -> None:
    shown = Redactor(["box-of-anna-77"]).text(text)
    assert secret not in shown
    assert MASK in shown


def test_ordinary_lines_stay_as_they_are() -> None:
    for line in (
        "2026-01-31T23:59:59.000+00:00 info appliance.watch.taking taken path=input/a.mp4 job=01jd3v5n bytes=5",
        "waiting for http://127.0.0.1:8000/healthz",
        "the database has 12 tables",
    ):
        assert Redactor().text(line) == line


def test_settings_are_masked_by_name_and_by_content() -> None:
    value: dict[str, object] = {
        "web": {"admin_password": "x", "port": 8000},
        "bus": {"url": "nats://a:bcdefg@h"},
        "token_days": 30,
        "n": None,
    }
    assert Redactor().value(value) == {
        "web": {"admin_password": MASK, "port": 8000},
        "bus": {"url": f"nats://{MASK}@h"},
        "token_days": MASK,
        "n": None,
    }


@given(st.text(st.characters(exclude_characters="*"), min_size=6), st.text(), st.text())
def test_a_known_secret_never_comes_through(secret: str, before: str, after: str) -> None:
    shown = Redactor([secret]).text(before + secret + after)
    assert secret not in shown


def test_a_private_file_is_its_owners_only_and_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with publish_private(path) as file:
        file.write(b"x")
        assert not path.exists()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with contextlib.suppress(ZeroDivisionError), publish_private(path) as file:
        file.write(b"y")
        raise ZeroDivisionError
    assert path.read_bytes() == b"x"
    assert [item.name for item in tmp_path.iterdir()] == ["a"]
