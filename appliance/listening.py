"""The socket of the pages and the API: the web process serves on it; who starts the box looks first if it is free."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address

from appliance.errors import ProcessFailed

BACKLOG = 512


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `ProcessFailed` when the address cannot be had, saying what to do."""
    try:
        six = ip_address(host.strip("[]")).version == 6
    except ValueError:
        six = False
    try:
        sock = socket.create_server(
            (host.strip("[]"), port),
            family=socket.AF_INET6 if six else socket.AF_INET,
            backlog=BACKLOG,
            dualstack_ipv6=six and host.strip("[]") == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error
        raise ProcessFailed(
            f"cannot listen on {host}:{port} ({reason}): end what holds the port, or set web.host and web.port"
        ) from error
    sock.setblocking(False)
    return sock
