"""Which files have stood still for long enough. Pure: the caller brings looks and a clock."""

from __future__ import annotations

from collections.abc import Iterable

from appliance.watch.folder import Entry

MAX_DELAY_S = 300.0
"""Most seconds by which an entry that does not come to rest is put off: a bad disk would be read for ever."""


class Settling:
    """Remembers since when each entry is as it is, and what has been dealt with.

    Holds no more than the last look did: what is not seen is forgotten, so a file that comes back settles anew.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._since: dict[str, tuple[Entry, float]] = {}
        self._done: dict[str, Entry] = {}
        self._tries: dict[str, int] = {}

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
        self._tries = {path: tries for path, tries in self._tries.items() if path in since}
        return settled

    def done(self, entry: Entry) -> None:
        """Nothing more is to be done about `entry` until it changes."""
        self._since.pop(entry.path, None)
        self._tries.pop(entry.path, None)
        self._done[entry.path] = entry

    def wait(self, entry: Entry, until: float) -> None:
        """There is no room for it now: it settles anew from `until`, or once it has changed."""
        self._since[entry.path] = (entry, until)

    def again(self, entry: Entry, now: float) -> int:
        """It was not at rest, or cannot be read: it settles anew, later each time it happens, or once it has changed.

        Returns how often this has happened to it.
        """
        tries = self._tries[entry.path] = self._tries.get(entry.path, 0) + 1
        self._since[entry.path] = (entry, now + (min(MAX_DELAY_S, 2.0 ** min(tries, 30)) if tries > 1 else 0.0))
        return tries
