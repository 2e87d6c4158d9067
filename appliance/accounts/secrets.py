"""Secrets that are shown once and kept as hashes, and passwords.

A secret of ours has 256 random bits, so one round of sha256 keeps it safe. Passwords are people's: argon2id with the
parameters of the OWASP password storage sheet (19 MiB, 2 passes, 1 lane), about 30 ms and never on an event loop.
"""

from __future__ import annotations

import hashlib
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from appliance.errors import AccountRefused

MIN_PASSWORD_CHARS = 10
MAX_PASSWORD_CHARS = 1024

_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
NOBODY = _hasher.hash(secrets.token_urlsafe())
"""Checked for users who do not exist, so that they take as long as those who do."""


def new_secret() -> str:
    """256 random bits as 43 characters that are safe in URLs, headers and cookies."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def csrf_of(secret: str) -> str:
    """The token that a page sends along with changes: known to who knows the cookie, and to nobody else."""
    return hashlib.blake2b(secret.encode(), digest_size=24, person=b"appliance-csrf").hexdigest()


def hash_password(password: str, user: str) -> str:
    """Blocking, about 30 ms. Raises `AccountRefused` for a password that is too short, too long or the user's name."""
    if len(password) < MIN_PASSWORD_CHARS:
        raise AccountRefused(f"the password is too short: take {MIN_PASSWORD_CHARS} characters or more")
    if len(password) > MAX_PASSWORD_CHARS:
        raise AccountRefused(f"the password is too long: take {MAX_PASSWORD_CHARS} characters at most")
    if password.lower() == user.lower() or len(set(password)) < 4:
        raise AccountRefused("the password is too easy to guess: take another one")
    try:
        return _hasher.hash(password)
    except UnicodeEncodeError:
        raise AccountRefused("the password holds characters that cannot be stored: take another one") from None


def password_fits(kept: str, password: str) -> bool:
    """Blocking, about 30 ms, whatever the answer."""
    if len(password) > MAX_PASSWORD_CHARS:
        password = ""
    try:
        return _hasher.verify(kept, password)
    except (VerificationError, InvalidHashError, UnicodeEncodeError):
        return False
