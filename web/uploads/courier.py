"""The outbox: complete uploads that the bus does not know of become facts, each once.

`file:uploaded`, `job:created` and the job's first command are one commit on condition that nothing was said about this
upload before. After a kill the same commit is tried again; when it is refused as stale, the last try was stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial

from appliance.config import Config
from appliance.control.ledger import Ledger
from appliance.errors import IntakeClosed
from appliance.intake import Arrival, create_job
from appliance.uploads import content_path, upload_source
from bus.commit import Expect
from bus.connection import Bus
from bus.errors import Retryable, Stale
from bus.events import FileUploaded
from bus.subjects import event_subject
from web.database import WebDatabase
from web.uploads import table
from web.uploads.table import Upload

log = logging.getLogger(__name__)
SOURCE = "web"
BATCH = 100
AGAIN_S = 1.0
LOOK_S = 60.0
START = (0.0, "")


class Courier:
    """One per process: `run` until cancelled."""

    def __init__(self, config: Config, bus: Bus, db: WebDatabase, ledger: Ledger) -> None:
        self._config = config
        self._bus = bus
        self._db = db
        self._ledger = ledger
        self._wake = asyncio.Event()
        self._delivered = asyncio.Event()

    def wake(self) -> None:
        """There is something to tell."""
        self._wake.set()

    async def told(self, ident: str, wait_s: float) -> bool:
        """Waits until the bus knows of this upload; False when it does not within `wait_s`."""
        try:
            async with asyncio.timeout(wait_s):
                while True:
                    delivered = self._delivered
                    upload = await self._db.read(lambda db: table.find(db, ident))
                    if upload is None or upload.told:
                        return True
                    await delivered.wait()
        except TimeoutError:
            return False

    async def run(self) -> None:
        after = START
        while True:
            if after == START:
                self._wake.clear()
            try:
                waiting = await self._db.read(partial(table.to_tell, limit=BATCH, after=after))
                for upload in waiting:
                    await self._tell(upload)
            except (Retryable, IntakeClosed) as error:
                log.info("complete uploads wait: %s", error)
                if isinstance(error, IntakeClosed):
                    await self._ledger.until_running("intake")
                await asyncio.sleep(AGAIN_S)
                continue
            if len(waiting) == BATCH:  # past those that cannot be told to those behind them
                after = (waiting[-1].touched_at, waiting[-1].id)
            else:
                after = START
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._wake.wait()

    async def _tell(self, upload: Upload) -> None:
        """One that cannot be told is logged: the others must not wait for it. Raises `Retryable`, `IntakeClosed`."""
        try:
            await self._deliver(upload)
            await self._db.change(partial(table.told, ident=upload.id))
        except (Retryable, IntakeClosed):
            raise
        except Exception:
            log.exception("a complete upload could not be told; tried again", extra={"upload": upload.id})
            return
        delivered, self._delivered = self._delivered, asyncio.Event()
        delivered.set()

    async def _deliver(self, upload: Upload) -> None:
        """Raises `Retryable`, `IntakeClosed`."""
        assert upload.sha256 is not None
        source = upload_source(upload.id, upload.name, upload.sha256)
        fact = FileUploaded(
            source=SOURCE,
            job=upload.job,
            file=upload.id,
            path=str(content_path(self._config.data_dir, upload.sha256).relative_to(self._config.data_dir)),
            name=upload.name,
            size_bytes=upload.size_bytes,
            sha256=upload.sha256,
            via="upload",
        )
        arrival = Arrival(fact, Expect(event_subject(fact), 0))
        try:
            if upload.job is None or await self._bus.last_fact(upload.job) is not None:
                await self._bus.commit([fact], arrival.expect)
            else:
                await create_job(
                    self._bus, source, upload.wanted.options, owner=upload.owner, ledger=self._ledger, arrival=arrival
                )
        except Stale:
            log.info("this upload was told before", extra={"upload": upload.id})
