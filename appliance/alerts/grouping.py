"""Many notices into few messages. Pure: the time comes in, messages go out.

A notice waits `group_s` for company, a critical one `urgent_s`; between two messages there is at least `group_s`. What
is kept is bounded by the number of groups, never by the number of notices: a thousand failures are one line.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

from msgspec import Struct

from appliance.alerts.rules import RANK, Severity

MAX_GROUPS = 50
MAX_EXAMPLES = 3
MAX_LINES = 25
MAX_TEXT = 300
OTHERS = "and others"
Noun = Literal["alert", "all-clear", "failure"]


class Notice(Struct, frozen=True, kw_only=True):
    """One thing to tell. Notices with the same `group` become one line with a count."""

    noun: Noun
    group: str
    severity: Severity
    text: str


class Message(Struct, frozen=True, kw_only=True):
    """What is sent."""

    title: str
    body: str
    severity: Severity
    notices: int


class _Group(Struct):
    noun: Noun
    severity: Severity
    count: int
    examples: list[str]


class Grouper:
    """`add` notices; `due` gives the message when it is time, at which the gathering starts anew."""

    def __init__(self, host: str, *, group_s: float, urgent_s: float) -> None:
        self._host = host
        self._group_s = group_s
        self._urgent_s = urgent_s
        self._groups: dict[str, _Group] = {}
        self._send_at: float | None = None
        self._sent_at: float | None = None

    def add(self, now: float, notice: Notice) -> None:
        wait_s = (
            min(self._urgent_s, self._group_s) if notice.severity == "critical" and notice.noun == "alert" else None
        )
        at = now + (self._group_s if wait_s is None else wait_s)
        self._send_at = at if self._send_at is None else min(self._send_at, at)
        name = notice.group if notice.group in self._groups or len(self._groups) < MAX_GROUPS else OTHERS
        group = self._groups.setdefault(name, _Group(notice.noun, notice.severity, 0, []))
        group.count += 1
        group.severity = max(group.severity, notice.severity, key=RANK.__getitem__)
        text = " ".join(notice.text.split())[:MAX_TEXT]  # one line a notice, whatever an error message holds
        if len(group.examples) < MAX_EXAMPLES and text not in group.examples:
            group.examples.append(text)

    def next_at(self) -> float | None:
        """When `due` will have a message; None while there is nothing to tell."""
        if self._send_at is None:
            return None
        return self._send_at if self._sent_at is None else max(self._send_at, self._sent_at + self._group_s)

    def due(self, now: float) -> Message | None:
        at = self.next_at()
        if at is None or now < at:
            return None
        groups, self._groups = self._groups, {}
        self._send_at, self._sent_at = None, now
        return self._message(groups)

    def _message(self, groups: dict[str, _Group]) -> Message:
        ordered = sorted(groups.values(), key=lambda group: (-RANK[group.severity], group.noun))
        counts: Counter[Noun] = Counter()
        lines: list[str] = []
        for group in ordered:
            counts[group.noun] += group.count
            times = f" (×{group.count})" if group.count > 1 else ""
            first, *more = group.examples
            lines.append(f"{first}{times}")
            lines += [f"  also: {text}" for text in more]
        if len(lines) > MAX_LINES:
            lines = [*lines[:MAX_LINES], f"… and {len(lines) - MAX_LINES} lines more: `appliance alerts list`"]
        said = ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in counts.items())
        severity = max((group.severity for group in ordered), key=RANK.__getitem__)
        return Message(
            title=f"{self._host}: {said}", body="\n".join(lines), severity=severity, notices=sum(counts.values())
        )
