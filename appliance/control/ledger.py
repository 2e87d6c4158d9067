"""The control ledger: its facts on the bus, read once or followed, and the two things that may be said in it.

The last `control:changed` of each target and holder is the whole state, so it survives every process of the box, and
whoever follows it acts on the same words, in the same order, without asking anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, Self

from appliance.control.holds import Hold, Mode, Target, hold_of, strongest
from appliance.tasks import in_background
from bus.commit import Expect
from bus.connection import Bus
from bus.errors import Retryable, Stale
from bus.events import ControlChanged
from bus.feed import Feed, LiveEvent
from bus.stored import Stored

__all__ = ["Hold", "Ledger", "Mode", "Target", "hold", "last_words", "read_holds", "release", "say_again", "say_over"]

log = logging.getLogger(__name__)
ALL = "evt.control.changed.*.*"
AGAIN_S = 0.5
LONGEST_WAIT_S = 60.0
"""Ends of holds are moments of the wall clock: it is looked at this often, in case it was set."""
NET_AGAIN_S = 5.0
NET_S = 300.0
"""The ledger is read anew this often: a net under the live feed."""


async def last_words(bus: Bus, subject_filter: str = ALL) -> list[Hold]:
    """The last word of each target and holder, ends included, in stream order. Raises `bus.errors.Retryable`."""
    words = (hold_of(stored) for stored in await bus.last_facts(subject_filter))
    return [word for word in words if word is not None]


async def read_holds(bus: Bus, target: Target | None = None) -> list[Hold]:
    """What stands now, the oldest first: of `target`, or all. Raises `bus.errors.Retryable`."""
    words = await last_words(bus, ALL if target is None else f"evt.control.changed.{target}.*")
    now = datetime.now(UTC)
    return [word for word in words if not word.is_over(now)]


class Ledger:
    """`async with Ledger(bus) as ledger:` the holds of this moment, followed as they change.

    Entering reads them; raises `bus.errors.Retryable` when the bus is away. After a reconnect they are read anew, so
    what was said meanwhile is not missed. While the bus is away the last known holds stand.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._words: dict[tuple[Target, str], Hold] = {}
        self._heard: dict[tuple[Target, str], Hold] = {}
        """What came live while the ledger was being read."""
        self._change = asyncio.Event()
        self._gap = asyncio.Event()
        self._forget_reconnect: Callable[[], None] = lambda: None
        self._stack = contextlib.AsyncExitStack()
        self._following: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        try:
            feed = await self._stack.enter_async_context(self._bus.live(ALL))
            self._forget_reconnect = self._bus.on_reconnect(self._gap.set)
            self._following = [in_background(self._follow(feed), "following the control ledger")]
            await self._load()
            self._following.append(in_background(self._mend(feed), "reading the control ledger anew"))
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget_reconnect()
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        await self._stack.aclose()

    def holds(self, target: Target | None = None) -> list[Hold]:
        """What stands now, the oldest first: of `target`, or all."""
        if not self._words:
            return []
        now = datetime.now(UTC)
        standing = (word for word in self._words.values() if not word.is_over(now))
        return sorted((word for word in standing if target in (None, word.target)), key=lambda word: word.seq)

    def mode(self, target: Target) -> Mode:
        """The strongest of the target's holds; `run` without any."""
        return strongest(self.holds(target))

    async def until(self, target: Target, *modes: Mode) -> Mode:
        """Waits until the target is in one of `modes`; which. Wakes when a hold is said, ended, or over by itself."""
        while (mode := self.mode(target)) not in modes:
            await self.changed()
        return mode

    async def until_running(self, target: Target) -> None:
        """Waits until nobody holds the target."""
        await self.until(target, "run")

    async def changed(self) -> None:
        """Waits until something is said, or the next hold is over by itself, at most `LONGEST_WAIT_S`."""
        change, now = self._change, datetime.now(UTC)
        ends = [(word.until - now).total_seconds() for word in self.holds() if word.until is not None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(LONGEST_WAIT_S, *ends) if ends else LONGEST_WAIT_S):
                await change.wait()

    async def _follow(self, feed: Feed[LiveEvent]) -> None:
        async for stored in feed:
            word = hold_of(stored)
            if word is None:
                continue
            key = (word.target, word.holder)
            self._heard[key] = word
            known = self._words.get(key)
            if known is None or known.seq < word.seq:
                self._words[key] = word
                self._wake()

    async def _mend(self, feed: Feed[LiveEvent]) -> None:
        """Read the ledger anew when something may have been missed."""
        dropped = feed.dropped
        while not self._bus.closed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(NET_S):
                    await self._gap.wait()
            self._gap.clear()
            try:
                await self._load()
            except Retryable as error:
                log.warning("the bus is away: the control ledger is as it was", extra={"error": str(error)})
                self._gap.set()
                await asyncio.sleep(AGAIN_S)
                continue
            except Exception:  # without this net a missed word would be missed for good
                log.exception("the control ledger could not be read: it is as it was")
                self._gap.set()
                await asyncio.sleep(NET_AGAIN_S)
                continue
            if feed.dropped != dropped:
                dropped = feed.dropped
                self._gap.set()

    async def _load(self) -> None:
        # What the stream says replaces what was known: after a loss of the stream its sequences begin again.
        self._heard = {}
        words = {(word.target, word.holder): word for word in await last_words(self._bus)}
        for key, word in self._heard.items():
            known = words.get(key)
            if known is None or known.seq < word.seq:
                words[key] = word
        if words != self._words:
            self._words = words
            self._wake()

    def _wake(self) -> None:
        change, self._change = self._change, asyncio.Event()
        change.set()


async def hold(
    bus: Bus,
    target: Target,
    holder: str,
    *,
    mode: Literal["pause", "drain"] = "pause",
    by: str,
    reason: str,
    until: datetime | None = None,
) -> bool:
    """Hold `target` for `holder`; False when it is held just so already: same mode, reason and end.

    A hold of the same holder that differs is replaced. `holder`: lower-case letters, digits and `-`. `until` has a time
    zone and lies in the future. Raises ValueError for what cannot be, `bus.errors.Retryable` when the bus is away.
    """
    now = datetime.now(UTC)
    if until is not None and (until.tzinfo is None or until <= now):
        raise ValueError(f"a hold cannot end at {until}: give a time in the future, with its zone")
    fact = ControlChanged(source=by, target=target, holder=holder, mode=mode, by=by, reason=reason, until=until)

    def is_so(last: Hold | None) -> bool:
        if last is None or last.is_over(now):
            return False
        return (last.mode, last.reason, last.until) == (mode, reason, until)

    return await _say(bus, fact, is_so)


async def release(bus: Bus, target: Target, holder: str, *, by: str, reason: str = "") -> bool:
    """End the hold of `holder`; False when it has none. What others hold stands. Raises `bus.errors.Retryable`."""
    fact = ControlChanged(source=by, target=target, holder=holder, mode="run", by=by, reason=reason)
    return await _say(bus, fact, lambda last: last is None or last.mode == "run")


async def say_again(bus: Bus, word: Hold) -> bool:
    """The same hold as a new fact. False when its holder has said something else since. Raises as `hold`."""
    fact = ControlChanged(
        source=word.by,
        target=word.target,
        holder=word.holder,
        mode=word.mode,
        by=word.by,
        reason=word.reason,
        until=word.until,
    )
    return await _commit(bus, fact, word.seq)


async def say_over(bus: Bus, word: Hold, *, by: str, reason: str) -> bool:
    """The end of just this hold. False when its holder has said something else since. Raises as `hold`."""
    fact = ControlChanged(source=by, target=word.target, holder=word.holder, mode="run", by=by, reason=reason)
    return await _commit(bus, fact, word.seq)


async def _say(bus: Bus, fact: ControlChanged, is_so: Callable[[Hold | None], bool]) -> bool:
    while True:
        last: Stored | None = None
        for stored in await bus.last_facts(_subject(fact)):
            last = stored
        if is_so(None if last is None else hold_of(last)):
            return False
        if await _commit(bus, fact, 0 if last is None else last.seq):
            return True


async def _commit(bus: Bus, fact: ControlChanged, last_seq: int) -> bool:
    try:
        await bus.commit([fact], Expect(_subject(fact), last_seq))
    except Stale:
        return False
    return True


def _subject(fact: ControlChanged) -> str:
    return f"evt.control.changed.{fact.target}.{fact.holder}"
