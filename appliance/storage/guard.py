"""The guard: watches the data volume's free space, closes intake at the floor and opens it again.

Two loops. One looks at the disk every `check_s` and does at once what needs no bus: it gives up the ballast. The other
says on the bus, in the control ledger, what the first has found, and keeps trying while the bus is away: on a full disk
it may be frozen until the supervisor has restarted it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime

from appliance.config import Config
from appliance.control.ledger import Target, hold, read_holds, release
from appliance.errors import SourceUnavailable
from appliance.storage.admission import Admission, Promised
from appliance.storage.ballast import Ballast
from appliance.storage.levels import Level, level_after
from appliance.storage.sample import BOX, TELEMETRY, StorageSample
from appliance.storage.sweep import Sweeper
from appliance.storage.volume import Marks, Volume, marks, measure, size_text
from bus.connection import Bus
from bus.errors import Retryable
from bus.events import STAGES

log = logging.getLogger(__name__)
HOLDER = "storage"
PROMISED_EVERY_S = 15.0
"""What open jobs will still need is counted anew this often, and when the level changes: it walks their folders."""
AGAIN_S = 1.0
TARGETS: tuple[Target, ...] = ("intake", *STAGES)


class Guard:
    """One per box. `serve` runs until cancelled."""

    def __init__(self, bus: Bus, config: Config, sweeper: Sweeper) -> None:
        self._bus = bus
        self._config = config
        self._sweeper = sweeper
        self._admission = Admission(config)
        self._ballast = Ballast(config.data_dir)
        self._promised = Promised(0, 0)
        self._promised_at = -PROMISED_EVERY_S
        self._level: Level = "open"
        self._reason: str | None = None
        self._changed = asyncio.Event()

    async def serve(self) -> None:
        self._level = await self._last_level()
        self._changed.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._say())

    # -- looking ------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            try:
                await self._look()
            except OSError as error:
                log.warning("the data volume cannot be read", extra={"error": str(error)})
            await asyncio.sleep(self._config.admission.check_s)

    async def _look(self) -> None:
        volume, kept, ballast = await asyncio.to_thread(self._measure)
        level = level_after(self._level, volume.free_bytes, kept)
        await self._count_promised(at_once=level != self._level)
        if level != self._level:
            log.warning("storage is %s", level, extra={"before": self._level, "free_bytes": volume.free_bytes})
            self._level = level
            self._reason = None if level == "open" else reason(level, volume, self._promised, kept)
            self._changed.set()
        elif level != "open" and self._reason is None:  # after a start
            self._reason = reason(level, volume, self._promised, kept)
            self._changed.set()
        if volume.free_bytes - self._promised.bytes < kept.target_bytes:
            self._sweeper.space_is_short()
        sample = StorageSample(
            ts=datetime.now(UTC),
            total_bytes=volume.total_bytes,
            free_bytes=volume.free_bytes,
            promised_bytes=self._promised.bytes,
            reserve_bytes=kept.reserve_bytes,
            floor_bytes=kept.floor_bytes,
            ballast_bytes=ballast,
            level=level,
            reason=self._reason,
            exhausted=self._sweeper.exhausted,
        )
        self._bus.telemetry(TELEMETRY, BOX, sample)

    def _measure(self) -> tuple[Volume, Marks, int]:
        """The volume, after the ballast was taken or given up as it calls for."""
        volume = measure(self._config.data_dir)
        kept = marks(self._config.admission, self._config.retention, volume.total_bytes)
        held = self._ballast.bytes
        if held and kept.ballast_bytes == 0:
            self._ballast.drop()  # the setting was changed
            volume, held = measure(self._config.data_dir), 0
        elif held and volume.free_bytes < kept.ballast_bytes // 2:
            log.warning("the disk is full: the ballast is given up", extra={"bytes": self._ballast.drop()})
            volume, held = measure(self._config.data_dir), 0
        elif held < kept.ballast_bytes and volume.free_bytes >= kept.resume_bytes + kept.ballast_bytes:
            self._ballast.take(kept.ballast_bytes)
            volume, held = measure(self._config.data_dir), self._ballast.bytes
        return volume, kept, held

    async def _count_promised(self, *, at_once: bool) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._promised_at < PROMISED_EVERY_S and not at_once:
            return
        try:
            self._promised = (await asyncio.to_thread(self._admission.known))[1]
        except SourceUnavailable as error:
            log.warning("%s", error)
        self._promised_at = now

    # -- saying -------------------------------------------------------------------------------------------------------

    async def _say(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                for target in TARGETS:
                    await self._say_of(target)
            except Retryable as error:
                log.warning("the bus is away: what storage allows is said later", extra={"error": str(error)})
                self._changed.set()
                await asyncio.sleep(AGAIN_S)

    async def _say_of(self, target: Target) -> None:
        wanted = self._level == "full" or (self._level == "closed" and target == "intake")
        if not wanted:
            if await release(self._bus, target, HOLDER, by=HOLDER, reason="there is room again"):
                log.warning("%s goes on", target)
        elif self._reason is not None:
            await hold(self._bus, target, HOLDER, by=HOLDER, reason=self._reason)

    async def _last_level(self) -> Level:
        """What the ledger says, so that a restart between floor and margin opens nothing too early."""
        while True:
            with suppress(Retryable):
                held = {word.target for word in await read_holds(self._bus) if word.holder == HOLDER}
                if held - {"intake"}:
                    return "full"
                return "closed" if held else "open"
            await asyncio.sleep(AGAIN_S)


def reason(level: Level, volume: Volume, promised: Promised, kept: Marks) -> str:
    """Why nothing new is taken, with the bytes, for people."""
    free = f"{size_text(volume.free_bytes)} are free on the data volume"
    jobs = f"the {promised.jobs} open jobs will still need about {size_text(promised.bytes)}"
    if level == "full":
        enough = 2 * kept.full_bytes + kept.ballast_bytes
        return f"{free}, less than {size_text(kept.full_bytes)}; {jobs}; goes on by itself at {size_text(enough)}"
    floor, resume = size_text(kept.floor_bytes), size_text(kept.resume_bytes)
    return f"{free}, less than the floor of {floor}; {jobs}; intake opens by itself at {resume}"
