"""What our client sends, and what it hands over, is what the library would have sent and handed over."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nats.aio.client import Client as LibraryClient
from nats.errors import Error, ProtocolError

from bus.client import Client
from bus.transport import _Reader
from tests.unit.bus.library import result

SUBJECTS = st.one_of(
    st.sampled_from(["evt.job.created.a", "zürich.x", "a b", "a\r\nPING", "", "a\tb"]), st.text(max_size=6)
)
NAMES = st.one_of(st.sampled_from(["Nats-Msg-Id", " Padded ", "", " ", "two words", "a:b", "ü"]), st.text(max_size=4))
VALUES = st.one_of(st.sampled_from([" 12 ", "a\r\nb", "\ntwo\n\nlines", "zürich", ""]), st.text(max_size=6))


class Sink:
    """In the place of the connection: keeps what is written."""

    def __init__(self, busy: bool) -> None:
        self.busy = busy
        self.written = b""

    def write_at_once(self, data: bytes) -> bool:
        if not self.busy:
            self.written += data
        return not self.busy


def connected(client: LibraryClient) -> None:
    client._status = LibraryClient.CONNECTED
    client._max_payload = 64
    client._flush_queue = asyncio.Queue()
    client._flush_queue.put_nowait(None)  # type: ignore[arg-type]  # somebody has asked for a flush already


@given(
    SUBJECTS,
    st.binary(max_size=70),
    SUBJECTS,
    st.none() | st.dictionaries(NAMES, VALUES, max_size=3),
    st.booleans(),
    st.booleans(),
)
@example("evt.a", b"{}", "_INBOX.1", {"Nats-Msg-Id": "01j"}, False, False)
@example("evt.a", b"{}", "", {}, False, False)
@example("evt.a", b"x" * 65, "", None, False, False)
def test_what_is_sent_is_what_the_library_sends(
    subject: str, data: bytes, reply: str, headers: dict[str, str] | None, busy: bool, something_waits: bool
) -> None:
    library, ours, sink = LibraryClient(), Client(), Sink(busy)
    ours._tcp = sink  # type: ignore[assignment]
    said: list[Any] = []
    for client in (library, ours):
        connected(client)
        if something_waits:
            client._pending.append(b"PING\r\n")
        try:
            result(client.publish(subject, data, reply, headers))
        except (Error, UnicodeEncodeError) as error:
            said.append((type(error), str(error)))
        else:
            said.append((client.stats["out_msgs"], client.stats["out_bytes"]))
    assert said[0] == said[1]
    assert b"".join(library._pending) == b"".join(ours._pending) + sink.written
    assert not (sink.written and (busy or something_waits)), "it overtook what waited"


@pytest.mark.parametrize("status", [LibraryClient.CLOSED, LibraryClient.DRAINING_PUBS, LibraryClient.RECONNECTING])
def test_nothing_is_sent_past_the_library_while_it_is_not_connected(status: int) -> None:
    client, sink = Client(), Sink(busy=False)
    client._tcp = sink  # type: ignore[assignment]
    connected(client)
    client._status = status
    with contextlib.suppress(Error):
        result(client.publish("evt.a", b"x"))
    assert not sink.written
    assert not client._pending


TAKEN, KEPT, GONE = 1, 2, 3
SIDS = st.sampled_from([TAKEN, TAKEN, KEPT, GONE])
WORDS = st.sampled_from([b"live.evt.job.created.a", b"_INBOX.x.1", b"a"])


@st.composite
def pieces(draw: st.DrawFn) -> bytes:
    """One thing that a server says."""
    match draw(st.sampled_from(["MSG", "HMSG", "HMSG", "HMSG", "other"])):
        case "MSG":
            data = draw(st.binary(max_size=30))
            head = [b"MSG", draw(WORDS), b"%d" % draw(SIDS), *draw(st.lists(WORDS, max_size=1)), b"%d" % len(data)]
        case "HMSG":
            headers, body = (
                b"NATS/1.0\r\nA: " + draw(st.sampled_from([b"b", b"MSG a 1 1"])) + b"\r\n\r\n",
                draw(st.binary(max_size=30)),
            )
            data = headers + body
            head = [
                b"HMSG",
                draw(WORDS),
                b"%d" % draw(SIDS),
                *draw(st.lists(WORDS, max_size=1)),
                b"%d" % len(headers),
                b"%d" % len(data),
            ]
        case _:
            return draw(
                st.sampled_from([b"+OK\r\n", b"PONG\r\n", b"-ERR 'no'\r\n", b"MSG  a  1  1\r\nx\r\n", b"msg a 1 1\r\n"])
            )
    return b" ".join(head) + b"\r\n" + data + b"\r\n"


def noted(client: LibraryClient) -> list[Any]:
    """What `client` is told from now on, in order; it keeps nothing of it."""
    told: list[Any] = []

    async def message(sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        told.append((sid, subject, reply, headers or b"", data))

    async def said(err_msg: str) -> None:
        told.append(err_msg)

    client._process_msg = message  # type: ignore[method-assign]
    client._process_err = said  # type: ignore[method-assign]
    client._status = LibraryClient.CONNECTED
    return told


@given(st.lists(pieces(), max_size=8), st.lists(st.tuples(st.integers(1, 90), st.booleans()), min_size=1))
@example([b"MSG a 1 1\r\nx\r\n", b"MSG a 2 1\r\nx\r\n", b"MSG b 1 1\r\ny\r\n"], [(90, False)])
@example([b"HMSG a 1 12 0\r\nNATS/1.0\r\n\r\n\r\n"], [(90, True)])
def test_what_comes_in_is_seen_as_the_library_sees_it(said: list[bytes], cuts: list[tuple[int, bool]]) -> None:
    """However it is cut, and whether or not the library's reader is woken between two pieces; all of it in order."""
    library, ours = LibraryClient(), Client()
    theirs, mine = noted(library), noted(ours)
    stream = b"".join(said)

    def taker(subject: str, reply: str, headers: bytes, data: bytes) -> None:
        mine.append((TAKEN, subject.encode(), reply.encode(), headers, data))

    async def feed() -> None:
        reader, at, number = _Reader(ours, 2**16), 0, 0
        ours._takers[TAKEN] = taker
        while at < len(stream):
            size, wake = cuts[number % len(cuts)]
            reader.feed_data(stream[at : at + size])
            at, number = at + size, number + 1
            if reader._buffer and (wake or at >= len(stream)):
                await ours._ps.parse(await reader.read(2**15))

    ends: list[bool] = []
    for work in (library._ps.parse(stream), feed()):
        try:
            asyncio.run(work)
            ends.append(True)
        except ProtocolError:
            ends.append(False)
    assert mine == theirs
    assert ends[0] == ends[1]


def test_what_comes_in_for_a_taker_does_not_wait_for_the_loop() -> None:
    ours = Client()
    noted(ours)
    taken: list[bytes] = []
    ours._takers[TAKEN] = lambda *message: taken.append(message[-1])

    async def feed() -> None:
        reader = _Reader(ours, 2**16)
        reader.feed_data(b"MSG a 1 1\r\nx\r\nMSG a 1 3\r\ny")
        assert taken == [b"x"]
        reader.feed_data(b"yy\r\n")
        assert taken == [b"x", b"yyy"]

    asyncio.run(feed())
