"""The watch folder at work: look, wait until files settle, take them at a bounded rate, say what is refused.

What has been dealt with is read from the facts, so nothing is kept beside them and a restart takes nothing twice.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from appliance.control.ledger import Ledger
from appliance.dispatcher.said import say_alert
from appliance.storage.admission import Admission
from appliance.store.writer import Writer
from appliance.watch.folder import Entry, Look, look
from appliance.watch.known import known_files
from appliance.watch.settings import Input
from appliance.watch.settling import Settling
from appliance.watch.taking import DENIED, SOURCE, Taker
from bus.connection import Bus
from bus.errors import Retryable
from bus.events import AlertCleared, AlertRaised
from stages.download import Options

log = logging.getLogger(__name__)
ALERT = "watch-folder"
UNUSUAL = 5
"""Tries from which on the log says that a file does not come to rest."""
WAIT_S = 60.0
"""Until a file that the box had no room for is tried again."""
PAUSE_FACTOR = 20
"""A look may take a twentieth of the time at most: a folder of very many files is looked at less often,"""
MAX_PAUSE_S = 60.0
"""but at least once a minute."""
AT_ONCE = 32
"""Files that are taken between two looks, so that a long row of them is never older than this many."""


class WatchFolder:
    """One per box. `serve` runs until cancelled; raises what it cannot deal with (start it again).

    `admission`: files that it has no room for wait.
    """

    def __init__(
        self,
        bus: Bus,
        store: Writer,
        data_dir: Path,
        settings: Input,
        options: Options,
        *,
        admission: Admission | None = None,
    ) -> None:
        self._bus = bus
        self._store = store
        self._data_dir = data_dir
        self._settings = settings
        self._options = options
        self._admission = admission
        self._folder = settings.dir or data_dir / "input"
        self._settling = Settling(settings.settle_s)
        self._taker: Taker | None = None
        self._look_s = 0.0
        self._next_at = 0.0
        self._closed: str | None = None
        self._trouble: str | None = ""

    async def serve(self) -> None:
        thread = ThreadPoolExecutor(1, thread_name_prefix="watch")
        try:
            async with Ledger(self._bus) as ledger:
                while True:
                    try:
                        await self._round(ledger, thread)
                    except Retryable as error:
                        log.warning("the bus is away: the watch folder waits", extra={"error": str(error)})
                    await asyncio.sleep(max(self._settings.poll_s, min(MAX_PAUSE_S, PAUSE_FACTOR * self._look_s)))
        finally:
            if self._taker is not None:
                self._taker.stop.set()
                self._taker = None
            thread.shutdown(wait=False, cancel_futures=True)

    async def _round(self, ledger: Ledger, thread: ThreadPoolExecutor) -> None:
        """One look and what follows from it. Raises `bus.errors.Retryable`."""
        began = _now()
        try:
            root, data_dir, found = await asyncio.get_running_loop().run_in_executor(thread, self._look)
            self._look_s = _now() - began
        except OSError as error:
            await self._say_trouble(f"{self._folder} cannot be read: {error.strerror or error}")
            return
        if self._taker is None or self._taker.root != root:
            self._taker = self._new_taker(ledger, root, data_dir)
        await self._say_trouble(self._too_many(found))
        await self._deal_with(self._settling.seen(found.entries, _now()), ledger, self._taker, thread)

    def _look(self) -> tuple[Path, Path, Look]:
        root = self._folder.resolve(strict=True)
        return root, self._data_dir.resolve(), look(root, self._settings.max_files)

    def _new_taker(self, ledger: Ledger, root: Path, data_dir: Path) -> Taker:
        return Taker(
            self._bus,
            self._store,
            ledger,
            root=root,
            data_dir=data_dir,
            options=self._options,
            allow_duplicates=self._settings.duplicates == "allow",
            admission=self._admission,
        )

    def _too_many(self, found: Look) -> str | None:
        if found.complete:
            return None
        most = self._settings.max_files
        return f"{self._folder} holds more than {most} entries: move finished ones away, or raise input.max_files"

    async def _deal_with(self, settled: list[Entry], ledger: Ledger, taker: Taker, thread: ThreadPoolExecutor) -> None:
        if not settled:
            return
        fingerprints = await asyncio.get_running_loop().run_in_executor(
            thread, lambda: [taker.fingerprint(entry) for entry in settled]
        )
        known = await self._store.call(lambda db: known_files(db, fingerprints))
        unknown = []
        for entry, fingerprint in zip(settled, fingerprints, strict=True):
            fact = known.get(fingerprint)
            if fact is None or (fact.code == DENIED and entry.readable):
                unknown.append(entry)
            else:
                self._settling.done(entry)
        for entry in unknown[:AT_ONCE]:
            if self._is_closed(ledger, len(unknown)):
                return
            await self._pace()
            outcome = await taker.take(entry, thread)
            if outcome == "waits":
                self._settling.wait(entry, _now() + WAIT_S)
            elif outcome == "moving":
                if (tries := self._settling.again(entry, _now())) == UNUSUAL:
                    log.warning("does not come to rest, looked %d times", tries, extra={"path": repr(entry.path)})
            else:
                self._settling.done(entry)

    def _is_closed(self, ledger: Ledger, waiting: int) -> bool:
        """Whether somebody holds the intake; said in the log when that changes."""
        closed = "; ".join(str(hold) for hold in ledger.holds("intake")) or None
        if closed != self._closed:
            log.warning("intake is %s", f"held: {closed}" if closed else "open", extra={"files_waiting": waiting})
            self._closed = closed
        return closed is not None

    async def _pace(self) -> None:
        now = _now()
        await asyncio.sleep(max(0.0, self._next_at - now))
        self._next_at = max(now, self._next_at) + 60.0 / self._settings.max_per_minute

    async def _say_trouble(self, trouble: str | None) -> None:
        """An alert while the folder cannot be watched as it should be. Raises `bus.errors.Retryable`."""
        if trouble == self._trouble:
            return
        if trouble is None:
            text = f"{self._folder} is watched"
            await say_alert(self._bus, AlertCleared(source=SOURCE, alert=ALERT, message=text))
        else:
            log.error("%s", trouble)
            await say_alert(self._bus, AlertRaised(source=SOURCE, alert=ALERT, severity="warning", message=trouble))
        self._trouble = trouble


def _now() -> float:
    return asyncio.get_running_loop().time()
