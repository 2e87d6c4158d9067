"""Which files have stood still for long enough. Pure: the caller brings looks and a clock."""

from __future__ import annotations

from collections.abc import Iterable

from appliance.watch.folder import Entry


class Settling:
    """Remembers since when each entry is as it is, and what has been dealt with.

    Holds no more than the last look did: what is not seen is forgotten, so a file that comes back settles anew.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._since: dict[str, tuple[Entry, float]] = {}
        self._done: dict[str, Entry] = {}

    def seen(self, entries: Iterable[Entry], now: float) -> list[Entry]:
        """Take in a look at time `now` (seconds, monotonic); returns what has settled, in the look's order."""
        since: dict[str, tuple[Entry, float]] = {}
        done: dict[str, Entry] = {}
        settled: list[Entry] = []
        for entry in entries:
            if self._done.get(entry.path) == entry:
                done[entry.path] = entry
                continue
            before, began = self._since.get(entry.path, (entry, now))
            if before.identity != entry.identity:
                began = now
            since[entry.path] = (entry, began)
            if now - began >= self._settle_s:
                settled.append(entry)
        self._since, self._done = since, done
        return settled

    def done(self, entry: Entry) -> None:
        """Nothing more is to be done about `entry` until it changes."""
        self._since.pop(entry.path, None)
        self._done[entry.path] = entry

    def again(self, entry: Entry, at: float) -> None:
        """It could not be dealt with: it settles anew from `at`, now or later."""
        self._since[entry.path] = (entry, at)
