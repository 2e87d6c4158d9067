from __future__ import annotations

import socket
from typing import Any

import pytest

from stages.address import guarded_lookups, is_public, resolve
from stages.errors import Rejected, Transient
from stages.fetch import check_url

PRIVATE = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.254 127.0.0.1 127.1.2.3 169.254.0.1 169.254.169.254
172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1 192.168.0.1 192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.1
203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::2 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:1 fe80::1 fe80::1%eth0 febf::1
fec0::1 fc00::1 fd00::1 fdff::1 ff02::1 ff0e::1 2001:db8::1 100::1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::a00:1
64:ff9b:1::1 64:ff9b:1::808:808 2002:7f00:1:: 2002:a00:1:: 2002:a9fe:a9fe:: 2002:c0a8:1:: 2001:0:7f00:1::1
2001:0:4136:e378:8000:63bf:80ff:fffe ::127.0.0.1 ::10.0.0.1 ::ffff:0:127.0.0.1 ::ffff:0:a00:1
::ffff:100.64.0.1 nonsense 1.2.3 256.1.1.1
"""
PUBLIC = """
1.1.1.1 8.8.8.8 93.184.216.34 100.63.255.255 100.128.0.1 172.15.255.255 172.32.0.1 192.167.255.255 223.255.255.255
2606:4700::1111 2001:4860:4860::8888 ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::1 ::ffff:0:808:808
"""
SPELLINGS = """
2130706433 0x7f000001 0x7f.0.0.1 0177.0.0.1 017700000001 127.1 127.0.1 0 0x0 2852039166 0xa9fea9fe 0251.0376.0251.0376
10.1 0xa.1 012.0.0.1 192.168.1 3232235521 ::1 ::ffff:7f00:1 0:0:0:0:0:0:0:1 localhost
"""
"""Other ways to write loopback, link-local and private addresses that the C library understands."""


@pytest.mark.parametrize("address", PRIVATE.split())
def test_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", SPELLINGS.split())
def test_every_spelling_of_a_private_address_is_refused(host: str) -> None:
    with pytest.raises((Rejected, Transient)) as refusal:
        resolve(host, 80)
    assert refusal.value.code in ("url-private", "url-unresolvable")


def _answering(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """A resolver that gives the next answer at each call, the last one for ever."""
    asked: list[str] = []

    def lookup(host: str, port: int, **_: Any) -> list[Any]:
        found = answers[min(len(asked), len(answers) - 1)]
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return asked


def test_one_private_address_among_many_refuses_all(monkeypatch: pytest.MonkeyPatch) -> None:
    _answering(monkeypatch, ["8.8.8.8", "1.1.1.1", "192.168.1.1"])
    with pytest.raises(Rejected) as refusal:
        resolve("mixed.example", 443)
    assert refusal.value.code == "url-private"


def test_a_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding: what is returned is what was checked; the second answer is never asked for."""
    asked = _answering(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])
    assert resolve("flips.example", 80) == ["8.8.8.8"]
    assert asked == ["flips.example"]


def test_lookups_of_other_libraries_are_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    _answering(monkeypatch, ["10.0.0.1"])
    with guarded_lookups(allow_private=False), pytest.raises(Rejected):
        socket.getaddrinfo("site.example", 443)
    assert socket.getaddrinfo("site.example", 443)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://host/a", "gopher://host/", "data:video/mp4;base64,AA", "javascript:1", "//host/a.mp4",
     "host/a.mp4", "", "http://", "https:///a.mp4", "http://user:pass@host/a.mp4", "http://user@host/a", "concat:a|b",
     "http://[::1/a", "http://ho st/a", "unix:/run/x", "HTTP+UNIX://x/"],
)  # fmt: skip
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(Rejected) as refusal:
        check_url(url)
    assert refusal.value.code == "url-invalid"


def test_fragments_are_dropped() -> None:
    assert str(check_url(" https://host.example/a.mp4?b=1#t=10 ")) == "https://host.example/a.mp4?b=1"
