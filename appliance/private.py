"""What leaves the box as a file, or is shown to others, without its secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from stages.folder import publish

MASK = "***"
_SECRET_NAME = re.compile(r"(?i)pass(word|wd|phrase)?$|secret|token|api[_-]?key|credential|authorization|cookie")
_LEAST_SECRET = 6
"""Characters from which on a known secret is looked for everywhere."""
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<=://)[^/\s@'\"]+@"), f"{MASK}@"),
    (re.compile(r"(\bhttps?://[^\s?'\"]+)\?[^\s'\"]+"), rf"\1?{MASK}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {MASK}"),
    (
        re.compile(
            r"(?i)([\w-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|authorization|cookie)[\w-]*[\"']?\s*[=:]\s*)"
            r"(\"[^\"]*\"|'[^']*'|[^\s,;&}]+)"
        ),
        rf"\1{MASK}",
    ),
)


@contextmanager
def publish_private(path: Path) -> Iterator[IO[bytes]]:
    """As `stages.folder.publish`, for a file that only its owner may read: yields it open for writing, empty."""
    with publish(path) as part:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield file


class Redactor:
    """Masks secrets in texts and settings: those that it is told, and what looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({secret for secret in secrets if len(secret) >= _LEAST_SECRET}, key=len, reverse=True)
        self._known = re.compile("|".join(re.escape(secret) for secret in known)) if known else None

    def text(self, text: str) -> str:
        """`text` without passwords, tokens, and what URLs carry of them."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        for pattern, instead in _RULES:
            text = pattern.sub(instead, text)
        return text

    def value(self, value: Any, name: str = "") -> Any:
        """Plain JSON types with each text masked; what stands under the name of a secret goes entirely."""
        if value is not None and _SECRET_NAME.search(name):
            return MASK
        if isinstance(value, dict):
            return {key: self.value(below, str(key)) for key, below in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(below, name) for below in value]
        return self.text(value) if isinstance(value, str) else value
