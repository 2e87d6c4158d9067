"""Our reading of headers is the library's."""

from __future__ import annotations

import inspect

from hypothesis import example, given
from hypothesis import strategies as st
from nats.aio.client import Client as LibraryClient

from bus.client import Client

NAMES = st.sampled_from([b"Nats-Sequence", b"Nats-Subject", b" Padded ", b"two words", b"tab\tbed", b"\xc3\xa9", b""])
VALUES = st.one_of(st.binary(max_size=20), st.sampled_from([b" 12 ", b"a:b", b"\xff", b"z\xc3\xbcrich"]))
LINES = st.lists(st.one_of(st.tuples(NAMES, VALUES).map(b":".join), st.binary(max_size=12))).map(b"\r\n".join)


@given(LINES)
@example(b"Nats-Sequence: 12\r\nNats-Time-Stamp: 2026-01-01T00:00:00.123456789Z\r\n\r\n")
@example(b"status: once\r\nstatus: twice\r\nno colon\r\n: no name\r\n")
def test_headers_are_read_as_the_library_reads_them(raw: bytes) -> None:
    assert Client._parse_header_lines(raw) == LibraryClient._parse_header_lines(raw)


def test_the_library_still_reads_headers_there() -> None:
    assert "self._parse_header_lines(" in inspect.getsource(LibraryClient._process_headers)
