"""Entries and documents: what may be served when, and bytes that join to JSON."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.services.readers import NOWHERE, Position
from appliance.ssot.document import etag, finish, join
from appliance.ssot.entry import Entry, decode, decode_mark, encode, encode_mark, make, unfit

AT = Position("2026-01-01T00:00:00Z", 100)


def entry(body: bytes = b"{}", seq: int = 100, made_at: float = 1000.0, ttl_s: float = 10.0) -> Entry:
    return make(body, Position(AT.epoch, seq), made_at, ttl_s)


@given(body=st.binary(max_size=200), seq=st.integers(0, 2**53), made_at=st.floats(0, 1e10), ttl_s=st.floats(0, 1e6))
def test_an_entry_survives_the_cache(body: bytes, seq: int, made_at: float, ttl_s: float) -> None:
    one = entry(body, seq, made_at, ttl_s)
    assert decode(encode(one)) == one


@given(data=st.binary(max_size=100))
def test_foreign_bytes_are_no_entry_and_no_error(data: bytes) -> None:
    assert decode(data) is None
    assert decode_mark(data) is None


def test_an_entry_of_another_version_is_not_read() -> None:
    assert decode(None) is None
    assert decode(b'["e",1]\n{}') is None
    assert decode_mark(encode_mark(AT)) == AT


@pytest.mark.parametrize(
    ("mark", "now", "reason"),
    [
        (None, 1009.9, None),
        (None, 1010.0, "expired"),
        (AT, 1001.0, None),
        (AT._replace(seq=101), 1001.0, "invalidated"),
        (AT._replace(seq=99), 1001.0, None),
        (AT._replace(epoch="2026-02-01T00:00:00Z", seq=1), 1001.0, "invalidated"),
        (AT._replace(epoch="2025-02-01T00:00:00Z", seq=999), 1001.0, None),
        (None, 900.0, "expired"),
    ],
    ids=["young", "old", "includes it", "lacks it", "more", "a new stream", "an old stream", "the clock was set back"],
)
def test_when_an_entry_may_be_served(mark: Position | None, now: float, reason: str | None) -> None:
    assert unfit(entry(), mark, now) == reason


def test_a_document_is_as_old_as_its_oldest_section_and_as_good_as_its_first_to_go() -> None:
    sections: dict[str, Entry | None] = {
        "jobs": entry(b'{"a":1}', seq=90, made_at=1000.0, ttl_s=10.0),
        "queue": entry(b"[2]", seq=95, made_at=1003.0, ttl_s=5.0),
        "hardware": None,
    }
    joined = join(sections, 1004.0, 15.0, "t")
    assert joined.position == AT._replace(seq=90)
    assert joined.head.fresh_until == 1008.0
    assert joined.head.made_at == 1000.0
    assert joined.head.token == "t"
    found = msgspec.json.decode(finish(joined.body, {"cache": b"null"}, stale=True))
    assert found["jobs"] == {"a": 1}
    assert found["queue"] == [2]
    assert found["hardware"] is None
    assert found["cache"] is None
    assert found["stale"] is True
    assert found["seq"] == 90
    assert set(found["sections"]) == {"jobs", "queue"}
    assert found["sections"]["queue"]["seq"] == 95
    assert join(sections, 1004.0, 2.0, "t").head.fresh_until == 1006.0


def test_a_document_of_nothing_is_json_too() -> None:
    joined = join({"jobs": None}, 5.0, 15.0, "")
    assert joined.position == NOWHERE
    assert msgspec.json.decode(finish(joined.body, {}, stale=True))["jobs"] is None


def test_the_tag_tells_contents_apart_and_nothing_else() -> None:
    first = join({"a": entry(b"1", made_at=1.0)}, 2.0, 15.0, "t")
    later = join({"a": entry(b"1", made_at=9.0, seq=200)}, 10.0, 15.0, "u")
    other = join({"a": entry(b"2", made_at=1.0)}, 2.0, 15.0, "t")
    assert etag(first.head.digest, stale=False) == etag(later.head.digest, stale=False)
    assert etag(first.head.digest, stale=False) != etag(other.head.digest, stale=False)
    assert etag(first.head.digest, stale=True) != etag(first.head.digest, stale=False)
    assert etag("0", stale=False).startswith('W/"')
