"""Runs the table's actions: in parallel, bounded, at least once, in the order of each job's facts.

Facts are taken from the database behind the actions' cursor, which is stored there too and moves only past facts whose
every action is done or written down as failed (`appliance.store.failures`). What is written down is tried again later
with growing pauses, then waits for a person. So a kill at any moment loses no action: what was not finished is run
again, what failed stands in the table.

That the bus is away is no action's fault: actions wait for it, uncounted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

from appliance.breaker import Breaker, Permit, State
from appliance.dispatcher.actions import Handler
from appliance.dispatcher.figures import Figures
from appliance.dispatcher.settings import Dispatcher as Settings
from appliance.dispatcher.table import ACTION_TYPES, ACTIONS, Action, row_of
from appliance.dispatcher.window import Window
from appliance.lifecycle import backoff_s
from appliance.settings import Retry
from appliance.store import failures
from appliance.store.failures import FailedAction
from appliance.store.writer import Writer
from bus.errors import Retryable
from bus.events import AnyEvent

log = logging.getLogger(__name__)
CURSOR = "actions_cursor"
WINDOW = 256
"""Most facts whose actions are open at once."""
SAVE_S = 0.25
"""The cursor goes along with the next batch this often while actions run, and alone when no batch comes within as long
again: a flush to the disk of its own makes the next facts wait, and a cursor that is behind costs no more than some
actions run again after a kill."""
SAVE_EVERY = 4096
"""Without actions the cursor is stored when it has moved this far."""
MAX_FRESH = 16
BUS_AGAIN_S = 1.0
IDLE_S = 60.0
REASON_CHARS = 500


class Engine:
    """`serve` runs until cancelled; `wake` says that there may be new facts. One for a store."""

    def __init__(
        self,
        store: Writer,
        handlers: Mapping[Action, Handler],
        settings: Settings,
        bus_answers: Callable[[], Awaitable[bool]],
        figures: Figures,
    ) -> None:
        missing = set(ACTIONS) - set(handlers)
        if missing:
            raise ValueError(f"no handler for {sorted(missing)}")
        self._store = store
        self._handlers = handlers
        self._settings = settings
        self._bus_answers = bus_answers
        self._figures = figures
        self._retry_rule = Retry(backoff_s=settings.retry_backoff_s, backoff_max_s=settings.retry_backoff_max_s)
        self._slots = asyncio.Semaphore(settings.max_parallel_tasks)
        self._breakers: dict[Action, Breaker] = {
            action: Breaker(settings.failure_threshold, settings.recovery_timeout_s) for action in ACTIONS
        }
        self._fresh: deque[tuple[int, int, list[tuple[int, AnyEvent]]]] = deque()
        self._stored_s: dict[int, float] = {}
        """When facts that have just come were stored, until their actions begin."""
        self._behind = True
        """Whether the database may hold facts that were not handed over."""
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._retrying: set[str] = set()
        self._wake_pump = asyncio.Event()
        self._wake_retries = asyncio.Event()

    def applied(
        self, after: int, upto: int, facts: Iterable[tuple[int, AnyEvent]], stored_s: Mapping[int, float]
    ) -> None:
        """All facts of the database from `after` (exclusive) to `upto` are these: they need not be read again.

        `stored_s`: when each was stored, in seconds since 1970. Only a shortcut: what is not taken from here is read
        from the database.
        """
        if len(self._fresh) == MAX_FRESH:
            self._fresh.clear()
            self._stored_s.clear()
            self._behind = True
        due = [(seq, event) for seq, event in facts if row_of(event).actions]
        self._stored_s |= {seq: stored_s[seq] for seq, _ in due}
        self._fresh.append((after, upto, due))
        self._wake_pump.set()

    def breakers(self) -> dict[Action, State]:
        """The state of each action's circuit breaker."""
        return {action: breaker.state for action, breaker in self._breakers.items()}

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pump(tasks))
            tasks.create_task(self._retry(tasks))

    # -- what is new --------------------------------------------------------------------------------------------------

    async def _pump(self, tasks: asyncio.TaskGroup) -> None:
        saved = int(await self._store.meta(CURSOR) or 0)
        window = Window(saved)
        scanned, save_at, noted = saved, 0.0, False
        while True:
            self._wake_pump.clear()
            due: list[tuple[int, AnyEvent]] = []
            if room := WINDOW - len(window):
                due, scanned = self._take_fresh(scanned, room) or await self._read(scanned, room)
                for seq, event in due:
                    window.add(seq)
                    self._in_order(tasks, _key(event), partial(self._run_row, window, seq, event))
                window.seen(scanned)
            self._figures.actions_open = len(window)
            unsaved = window.finished > saved or window.position >= saved + SAVE_EVERY
            if (unsaved or noted) and time.monotonic() >= save_at:
                if unsaved:
                    saved = window.position
                    self._store.note_meta(CURSOR, str(saved))
                else:
                    await self._store.keep_noted()
                noted, unsaved, save_at = unsaved, False, time.monotonic() + SAVE_S
            if due or (self._fresh and room):
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, save_at - time.monotonic()) if unsaved or noted else None):
                    await self._wake_pump.wait()

    def _take_fresh(self, scanned: int, room: int) -> tuple[list[tuple[int, AnyEvent]], int] | None:
        """The facts that follow `scanned`, when they were handed over; None: they must be read."""
        while self._fresh and self._fresh[0][1] <= scanned:
            self._fresh.popleft()
        if not self._fresh:
            return None
        after, upto, facts = self._fresh[0]
        if after != scanned or len(facts) > room:
            self._behind = True
            return None
        self._fresh.popleft()
        return facts, upto

    async def _read(self, scanned: int, room: int) -> tuple[list[tuple[int, AnyEvent]], int]:
        if not self._behind:
            return [], scanned
        self._behind = False  # before the read: what is handed over meanwhile may say otherwise
        due, upto = await self._store.facts_due(scanned, ACTION_TYPES, room)
        if len(due) == room:
            self._behind = True
        return due, upto

    async def _run_row(self, window: Window, seq: int, event: AnyEvent) -> None:
        stored_s = self._stored_s.pop(seq, None)
        await asyncio.gather(*(self._run(action, event, 0, stored_s) for action in row_of(event).actions))
        window.done(seq)
        self._wake_pump.set()

    def _in_order(self, tasks: asyncio.TaskGroup, key: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` when everything before it of the same key is done."""
        before = self._lanes.get(key)

        async def run() -> None:
            if before is not None:
                await asyncio.wait([before])
            await work()

        task = tasks.create_task(run())
        self._lanes[key] = task
        task.add_done_callback(lambda done: self._lanes.pop(key) if self._lanes.get(key) is done else None)

    # -- what failed before -------------------------------------------------------------------------------------------

    async def _retry(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            self._wake_retries.clear()
            due = await self._store.call(lambda db: failures.due(db, datetime.now(UTC), WINDOW))
            fresh = [(failed, event) for failed, event in due if failed.target not in self._retrying]
            for failed, event in fresh:
                self._retrying.add(failed.target)
                key = failed.target if event is None else _key(event)
                self._in_order(tasks, key, partial(self._run_again, failed, event))
            if fresh:
                continue
            upcoming = await self._store.call(failures.next_try)
            wait_s = IDLE_S if upcoming is None else (upcoming - datetime.now(UTC)).total_seconds()
            if self._retrying:
                wait_s = IDLE_S  # each wakes us when it is done
            try:
                async with asyncio.timeout(max(0.0, min(wait_s, IDLE_S))):
                    await self._wake_retries.wait()
            except TimeoutError:
                continue

    async def _run_again(self, failed: FailedAction, event: AnyEvent | None) -> None:
        action = next((known for known in ACTIONS if known == failed.action), None)
        if event is None or action is None:
            reason = f"{failed.type} cannot be read" if event is None else f"no action is called {failed.action}"
            log.error("an action is given up: %s", reason, extra={"event": failed.event})
            await self._store.call(lambda db: failures.give_up(db, failed.event, failed.action, reason))
        else:
            await self._run(action, event, failed.attempts, again=True)
        self._retrying.discard(failed.target)
        self._wake_retries.set()

    # -- one action ---------------------------------------------------------------------------------------------------

    async def _run(
        self,
        action: Action,
        event: AnyEvent,
        failed_before: int,
        stored_s: float | None = None,
        *,
        again: bool = False,
    ) -> None:
        """Run it to an end: done, or written down as failed."""
        breaker = self._breakers[action]
        while True:
            async with self._slots:
                permit = breaker.enter()
                if permit is None:
                    reason = f"put off: {action} failed {self._settings.failure_threshold} times in a row"
                    await self._note(action, event, failed_before, reason, breaker.wait_s())
                    return
                self._figures.begins(action, stored_s)
                stored_s = None
                error = await self._attempt(action, event)
                self._figures.ended(action, ok=error is None)
            if error is None:
                await self._succeeded(action, event, permit, again=again)
                return
            if isinstance(error, Retryable) or (isinstance(error, TimeoutError) and not await self._bus_answers()):
                breaker.abandoned(permit)
                log.warning("the bus is away: %s waits", action, extra={"event": event.id})
                await asyncio.sleep(BUS_AGAIN_S)
                continue
            breaker.failed(permit, str(error))
            await self._failed(action, event, failed_before + 1, error)
            return

    async def _attempt(self, action: Action, event: AnyEvent) -> Exception | None:
        try:
            async with asyncio.timeout(self._settings.event_timeout_s):
                await self._handlers[action](event)
        except Exception as error:  # noqa: BLE001 - one action's failure is recorded, it must not end the others
            return error
        return None

    async def _succeeded(self, action: Action, event: AnyEvent, permit: Permit, *, again: bool) -> None:
        if again:
            await self._store.call(lambda db: failures.resolve(db, event.id, action))
        if self._breakers[action].succeeded(permit):
            await self._store.call(lambda db: failures.hasten(db, action))
            self._wake_retries.set()
        if action == "replay_failed":
            self._wake_retries.set()

    async def _failed(self, action: Action, event: AnyEvent, attempts: int, error: Exception) -> None:
        reason = (
            f"not done after {self._settings.event_timeout_s:g} s"
            if isinstance(error, TimeoutError)
            else f"{type(error).__name__}: {error}"
        )
        last = attempts > self._settings.max_retries
        log.error(
            "%s failed%s: %s",
            action,
            " for the last time" if last else "",
            reason,
            exc_info=None if isinstance(error, TimeoutError) else error,
            extra={"event": event.id, "job": event.job, "attempt": attempts},
        )
        await self._note(action, event, attempts, reason, None if last else backoff_s(self._retry_rule, attempts))

    async def _note(self, action: Action, event: AnyEvent, attempts: int, reason: str, next_in_s: float | None) -> None:
        next_try_at = None if next_in_s is None else datetime.now(UTC) + timedelta(seconds=next_in_s)
        short = reason[:REASON_CHARS]
        await self._store.call(lambda db: failures.record(db, event, action, attempts, short, next_try_at))
        self._wake_retries.set()


def _key(event: AnyEvent) -> str:
    """Facts with the same key are acted on one after the other."""
    return event.job or str(event.__struct_config__.tag)
