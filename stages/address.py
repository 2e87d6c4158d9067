"""Which network addresses a download may reach: public ones, checked on the very address that is connected to.

Names are resolved once, every address of the answer is checked, and the connection goes to a checked address: a name
that changes its answer in between (DNS rebinding) gains nothing. TLS and the Host header keep the name.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

import httpcore

from stages.errors import Rejected, Transient

_NAT64 = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")


def is_public(address: str) -> bool:
    """Whether an IP address (text) is one of the public internet, also when it wraps an IPv4 address."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return all(_is_global(each) for each in (found, *_embedded(found)))


def resolve(host: str, port: int, *, allow_private: bool = False) -> list[str]:
    """The addresses of `host`, all of them checked.

    Raises `Rejected` (`url-private`) if any is not public, `Transient` (`url-unresolvable`) if there is none.
    """
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Transient(f"the host {host} cannot be found: {error}", "url-unresolvable") from error
    addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    _check(host, addresses, allow_private)
    return addresses


@contextmanager
def guarded_lookups(*, allow_private: bool) -> Iterator[None]:
    """Within the block, `socket.getaddrinfo` of this process refuses what `resolve` would: for libraries that dial."""
    original = socket.getaddrinfo

    def lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
        answers = original(host, *args, **kwargs)
        _check(str(host), [str(answer[4][0]) for answer in answers], allow_private)
        return answers

    socket.getaddrinfo = lookup
    try:
        yield
    finally:
        socket.getaddrinfo = original


class GuardedBackend(httpcore.NetworkBackend):
    """Connects only to checked addresses; no read outlives `deadline` (monotonic seconds, may be moved)."""

    def __init__(self, *, allow_private: bool) -> None:
        self._dial = httpcore.SyncBackend()
        self._allow_private = allow_private
        self.deadline = float("inf")

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Try the addresses of `host` in order. Raises the last one's error."""
        failure: Exception | None = None
        for address in resolve(host, port, allow_private=self._allow_private):
            try:
                stream = self._dial.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _Bounded(stream, self)
        raise failure or httpcore.ConnectError(f"no address of {host} answers")

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        raise httpcore.ConnectError("a download never uses a unix socket")


class _Bounded(httpcore.NetworkStream):
    """A stream whose single reads and writes end at the backend's deadline."""

    def __init__(self, stream: httpcore.NetworkStream, backend: GuardedBackend) -> None:
        self._stream = stream
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left_s(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._left_s(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left_s = self._left_s(timeout, httpcore.ConnectTimeout)
        return _Bounded(self._stream.start_tls(ssl_context, server_hostname, left_s), self._backend)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _left_s(self, timeout: float | None, late: type[Exception]) -> float:
        left_s = self._backend.deadline - time.monotonic()
        if left_s <= 0:
            raise late("the time for this request is used up")
        return left_s if timeout is None else min(timeout, left_s)


def _check(host: str, addresses: list[str], allow_private: bool) -> None:
    if allow_private:
        return
    for address in addresses:
        if not is_public(address):
            raise Rejected(
                f"{host} is at {address}, which is not on the public internet; a download may not reach into "
                "private networks (set stages.download.allow_private_hosts to allow it)",
                "url-private",
            )


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address) and (address.is_site_local or address in _NAT64_LOCAL):
        return False
    return address.is_global and not address.is_multicast


def _embedded(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """IPv4 addresses inside an IPv6 one: mapped, 6to4, Teredo, NAT64, SIIT, and the old compatible form."""
    if isinstance(address, IPv4Address):
        return []
    found = [a for a in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())) if a is not None]
    low = IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _NAT64 or address in _TRANSLATED or int(address) >> 32 == 0:
        found.append(low)
    return found
