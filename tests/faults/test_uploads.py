"""Uploads through random cuts and kills of the web process, at length: every byte arrives, every job is made once.

`make test` makes 24 cuts, `make chaos` 200. The seed is printed; `CHAOS_SEED` repeats a run.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys

import pytest

from tests.integration.conftest import NatsBox, _shared_nats, nats
from tests.integration.web.conftest import config_for
from tests.integration.web.cutting import CUTS, MIB, CutUploads
from tests.integration.web.process import WebProcess

__all__ = ["_shared_nats", "nats"]
pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(3600)]
WANTED = 200 if int(os.environ.get("CHAOS_TRIALS", "30")) >= 200 else 24
SEED = int(os.environ.get("CHAOS_SEED", str(random.SystemRandom().randrange(10**9))))


async def test_random_cuts(nats: NatsBox, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{WANTED} cuts of uploads, CHAOS_SEED={SEED}\n")
    chance = random.Random(SEED)
    process = WebProcess(config_for(nats))
    await process.start()
    try:
        async with await asyncio.to_thread(process.client) as client:
            uploads = CutUploads(process, client, SEED)
            jobs = []
            while sum(uploads.cuts.values()) < WANTED:
                cuts = [chance.choices(CUTS, weights=(4, 4, 3, 1))[0] for _ in range(chance.randint(1, 8))]
                jobs.append(await uploads.upload(chance.randint(1, 6 * MIB), cuts))
            await uploads.check(await nats.bus("tap"), jobs)
        with capsys.disabled():
            sys.stdout.write(
                f"{sum(uploads.cuts.values())} cuts ({dict(uploads.cuts)}) of {len(jobs)} uploads: all bytes equal\n"
            )
    finally:
        await process.kill()
