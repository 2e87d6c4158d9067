"""No way of writing an address makes a download reach this machine or its network.

A canary listens on every address of this machine. Each form is asked for directly and as the target of a redirect, and
must be refused without one connection to it; the last tests let names change their answer while a download runs.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

import stages.address
from bus.events import JobSource
from stages.address import guarded_lookups
from stages.base import Task
from stages.download import Options, run
from stages.errors import StageError
from stages.folder import JobFolder
from tests.media.server import Site, serving

OUTSIDE = "127.0.0.9"
"""Stands for a host of the public internet where a test needs one that answers."""

HOSTS = """
127.0.0.1 127.0.0.2 127.1 127.0.1 127.255.255.254 127.000.000.001 0127.0.0.1 0177.0.0.1 0177.0.0.01 0177.0.1 0177.1
00000177.0.0.1 0x7f.0.0.1 0x7F.1 0x7f.0.1 0x7f.0x0.0x0.0x1 0X7F000001 0x7f000001 0x0000007f000001 2130706433
017700000001 0000017700000001 127.0x1 127.0.0x0.1 0x7f.0.0.01 127.0.0.1. 127.1. 2130706433.
0 0.0 0.0.0 0.0.0.0 00 0x0 0x0.0 0.0.0.0. 00000000000
localhost LOCALHOST LocalHost localhost. ip6-localhost ip6-loopback localhost.localdomain
[::1] [::] [::0] [0:0:0:0:0:0:0:1] [0000:0000:0000:0000:0000:0000:0000:0001] [0::1] [::0001] [0:0:0:0:0:0:0:0]
[::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:7f00:0001] [0:0:0:0:0:ffff:127.0.0.1] [0:0:0:0:0:ffff:7f00:1]
[::FFFF:127.0.0.1] [::127.0.0.1] [::7f00:1] [64:ff9b::127.0.0.1] [64:ff9b::7f00:1] [64:ff9b:1::7f00:1]
[2002:7f00:1::] [2002:7f00:0001::1]
[2001:0:7f00:1::1] [::ffff:0.0.0.0] [::ffff:0:127.0.0.1] [::1%lo] [::1%25lo] [::1%1] [fe80::1%25lo] [fe80::1%lo]
[::ffff:0x7f.1] [::ffff:2130706433] [::ffff:127.1] [127.0.0.1] [localhost] [::1.] [0x7f000001]
169.254.169.254 2852039166 0xa9fea9fe 0251.0376.0251.0376 [::ffff:169.254.169.254] [fd00:ec2::254] 100.100.100.200
10.0.0.1 172.17.0.1 192.168.0.1 192.168.1 10.1 100.64.0.1 224.0.0.1 255.255.255.255 [ff02::1] [fe80::1] [fc00::1]
１２７.０.０.１ ①②⑦.⓪.⓪.① 127。0。0。1 127．0．0．1 127｡0｡0｡1 ⓛⓞⓒⓐⓛⓗⓞⓢⓣ ｌｏｃａｌｈｏｓｔ ₁₂₇.₀.₀.₁ [：：1]
127%2e0%2e0%2e1 127%2E1 %31%32%37.0.0.1 local%68ost %6c%6f%63%61%6c%68%6f%73%74 [%3a%3a1] 127.0.0.1%00 127.0.0.1%0d%0a
"""
SHAPES = """
http://{here}@{here}/x http://public.example@{here}/x http://public.example:80@{here}/x http://{here}#@public.example/
http://{here}?@public.example/ http://{here};public.example/ http://public.example#@{here}/ http:{here}/x http:/{here}/x
http:///{here}/x http:////{here}/x http:\\\\{here}\\x http://\\{here}/x http://public.example\\@{here}/x //{here}/x
HTTP://{here}/x hTtP://{here}/x http://{here}\\@public.example/ http://{here}%23@public.example/ https://{here}/x
ftp://{here}/x gopher://{here}/_x dict://{here}/x ldap://{here}/x tftp://{here}/x ws://{here}/x rtsp://{here}/x
rtmp://{here}/x tcp://{here} udp://{here} hls+http://{here}/x.m3u8 concat:http://{here}/x|http://{here}/y
cache:http://{here}/x crypto:http://{here}/x subfile,,start,0,end,0,,:http://{here}/x url:http://{here}/x
view-source:http://{here}/x jar:http://{here}!/x feed:http://{here}/x http+unix://%2frun%2fx/ {here}/x
"""
FORMS = [f"http://{host}:{{port}}/x" for host in HOSTS.split()] + SHAPES.split()
BLANKS = [
    "http://127.0.0.1\t:{port}/x",
    "\thttp://{here}/x",
    "http://\n{here}/x",
    "ht\ttp://{here}/x",
    "http://{here}\r\n/x",
]


class Canary:
    """Listens on each address of this machine, IPv4 and IPv6, on one port, and counts who comes."""

    def __init__(self) -> None:
        self.visits: list[str] = []
        self._socket = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, address = self._socket.accept()
            except OSError:
                return
            self.visits.append(str(address))
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(30)


@pytest.fixture
def canary() -> Iterator[Canary]:
    running = Canary()
    yield running
    running.close()


def filled(form: str, canary: Canary) -> str:
    return form.replace("{here}", f"127.0.0.1:{canary.port}").replace("{port}", str(canary.port))


def outcome(url: str, folder: Path, options: Options | None = None) -> str:
    """The code of the refusal, or `taken`."""
    task = Task(stage="download", job="j", origin=JobSource(kind="url", location=url, name="x.mp4"))
    try:
        run(task, JobFolder(folder / "jobs" / "j", folder / "output"), options or Options(min_free_bytes=0), _quiet)
    except StageError as refusal:
        return refusal.code
    return "taken"


def _quiet(done: float, note: str | None = None) -> None:
    return None


def test_the_canary_sees_who_comes(canary: Canary, tmp_path: Path) -> None:
    """Or the other tests could not fail: each of these reaches it when that is allowed."""
    for host in ("127.0.0.1", "127.1", "0x7f.1", "2130706433", "localhost", "[::1]", "[::ffff:7f00:1]", "0"):
        before = len(canary.visits)
        outcome(f"http://{host}:{canary.port}/x", tmp_path, Options(allow_private_hosts=True, min_free_bytes=0))
        assert len(canary.visits) > before, host


def test_no_form_reaches_it(canary: Canary, tmp_path: Path) -> None:
    own = [
        address.address.partition("%")[0]
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
        and not stages.address.is_public(address.address.partition("%")[0])
    ]
    forms = FORMS + BLANKS + [f"http://{f'[{host}]' if ':' in host else host}:{{port}}/x" for host in own]
    found = {form: outcome(filled(form, canary), tmp_path) for form in forms}
    assert canary.visits == []
    assert set(found.values()) <= {"url-private", "url-invalid", "url-unresolvable"}, found
    assert len(forms) >= 150


def _as_header(url: str) -> str:
    """As a server would send it: its bytes, each as one Latin-1 character."""
    return url.encode().decode("latin-1")


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """One loopback address counts as public; all others are what they are."""
    real = stages.address.is_public
    monkeypatch.setattr(stages.address, "is_public", lambda address: address == OUTSIDE or real(address))


@contextmanager
def answering(monkeypatch: pytest.MonkeyPatch, *answers: str) -> Iterator[list[str]]:
    """`flips.example` gives the next of these addresses each time it is looked up, the last one for ever."""
    real = socket.getaddrinfo
    given: list[str] = []

    def lookup(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in ("flips.example", b"flips.example"):
            return real(host, port, *args, **kwargs)
        given.append(answers[min(len(given), len(answers) - 1)])
        return real(given[-1], port, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", lookup)
        yield given


@pytest.mark.usefixtures("outside")
def test_no_redirect_leads_to_it(canary: Canary, tmp_path: Path) -> None:
    with serving(Site(status=404), host=OUTSIDE) as site:
        found = {}
        for form in FORMS:
            site.redirects = {"/go": _as_header(filled(form, canary))}
            found[form] = outcome(f"http://{OUTSIDE}:{site.port}/go", tmp_path)
        assert len(site.asked) >= len(FORMS)
    assert canary.visits == []
    # What is no address of its own is one below the first: it is asked for there and is not to be had.
    assert set(found.values()) <= {"url-private", "url-invalid", "url-unresolvable", "url-redirect", "url-refused"}, (
        found
    )


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("inside", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "0.0.0.0"])
def test_a_name_that_changes_its_answer_gains_nothing(
    inside: str, canary: Canary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the check, at a redirect, and when a broken download is taken up again."""
    with serving(Site(data=bytes(3_000_000)), host=OUTSIDE) as site:
        site.redirects = {
            "/go": f"http://flips.example:{canary.port}/x",
            "/again": f"http://flips.example:{site.port}/x",
        }
        here = f"http://flips.example:{site.port}"
        with answering(monkeypatch, OUTSIDE, inside):
            assert outcome(f"{here}/go", tmp_path / "a") == "url-private"
        with answering(monkeypatch, OUTSIDE, inside):
            assert outcome(f"{here}/again", tmp_path / "b") == "url-private"
        site.drop_after = 2_000_000
        with answering(monkeypatch, OUTSIDE, inside) as given:
            assert outcome(f"{here}/video.mp4", tmp_path / "c") == "url-private"
        assert given == [OUTSIDE, inside]
        with answering(monkeypatch, inside, OUTSIDE):
            assert outcome(f"{here}/video.mp4", tmp_path / "d") == "url-private"
    assert canary.visits == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "localhost", "::1", "::ffff:7f00:1", "0"]
)
def test_a_library_that_dials_by_itself_is_held_back_too(host: str, canary: Canary) -> None:
    with guarded_lookups(allow_private=False), pytest.raises((StageError, OSError)):
        socket.create_connection((host, canary.port), timeout=5)
    assert canary.visits == []
