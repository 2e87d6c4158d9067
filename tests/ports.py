"""A port that a program started later can have."""

from __future__ import annotations

import random
import socket

BELOW_EPHEMERAL = range(20_000, 32_000)
"""The kernel gives outgoing connections ports from 32768 on, so none of them takes ours before the program has it."""


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens at this moment."""
    for port in random.sample(BELOW_EPHEMERAL, 50):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("50 ports in a row are taken")
