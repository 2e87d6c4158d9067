"""Roles, and somebody who has one."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")
"""From least to most; each may do all that those before it may."""


class Principal(Struct, frozen=True, kw_only=True):
    """Who makes a request."""

    user: str
    """The user's name, or `token:<name>`."""
    role: Role
    kind: Literal["session", "token"]
    id: str
    """Of the session or token: what ends when it is ended. No secret."""


def allows(have: Role, need: Role) -> bool:
    """Whether somebody with role `have` may do what asks for `need`."""
    return ROLES.index(have) >= ROLES.index(need)
