"""What we make of header blocks is what the library makes of them."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from nats.aio.client import Client as LibraryClient

from bus.headers import parsed
from tests.unit.bus.library import result

NAMES = st.sampled_from([b"Nats-Sequence", b"Nats-Subject", b" Padded ", b"two words", b"tab\tbed", b"\xc3\xa9", b""])
VALUES = st.one_of(st.binary(max_size=20), st.sampled_from([b" 12 ", b"a:b", b"\xff", b"z\xc3\xbcrich"]))
LINES = st.lists(st.one_of(st.tuples(NAMES, VALUES).map(b":".join), st.binary(max_size=12))).map(b"\r\n".join)
STATUSES = st.sampled_from([b"", b" 100 Idle Heartbeat", b" 204 EOB", b" 409 Consumer Deleted"])


@given(STATUSES, LINES)
@example(b"", b"Nats-Sequence: 12\r\nNats-Time-Stamp: 2026-01-01T00:00:00.123456789Z")
@example(b"", b"status: once\r\nstatus: twice\r\nno colon\r\n: no name")
@example(b" 404", b"")
@example(b" 503", b"")
def test_headers_are_read_as_the_library_reads_them(status: bytes, lines: bytes) -> None:
    raw = b"NATS/1.0" + status + b"\r\n" + lines + b"\r\n\r\n" * bool(lines) + b"\r\n" * (not lines)
    assert parsed(raw) == (result(LibraryClient()._process_headers(raw)) or {})
