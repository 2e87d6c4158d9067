"""Tus clients that are not ours, killed and cut off at random points: each goes on, every byte arrives, one job each.

`make test` makes 20 cuts of each client, `make chaos` 100. The seed is printed; `CHAOS_SEED` repeats a run.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import sys
from collections import Counter
from pathlib import Path

import pytest

from appliance.uploads import content_path, uploads_dir
from bus.events import JobCreated
from tests.browser.proxy import Wire
from tests.faults.tus_clients import Client, CutClients, TusJs, Tuspy
from tests.integration.conftest import NatsBox, _shared_nats, nats
from tests.integration.web.conftest import config_for
from tests.integration.web.process import WebProcess
from web import pages

__all__ = ["_shared_nats", "nats"]
pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]
WANTED = 100 if int(os.environ.get("CHAOS_TRIALS", "30")) >= 200 else 20
SEED = int(os.environ.get("CHAOS_SEED", str(random.SystemRandom().randrange(10**9))))


@pytest.mark.parametrize("kind", [Tuspy, TusJs])
async def test_a_client_goes_on_after_each_cut(
    nats: NatsBox, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: type[Client]
) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{WANTED} cuts of {kind.__name__}, CHAOS_SEED={SEED}\n")
    if kind is TusJs:
        try:
            await asyncio.to_thread(pages.install)
        except pages.PagesNotBuilt as error:
            pytest.skip(f"tus-js-client cannot be had here: {error}")
    process = WebProcess(config_for(nats))
    await process.start()
    try:
        async with await asyncio.to_thread(process.client) as api:
            token = api.headers["Authorization"].removeprefix("Bearer ")
            with Wire(process.config.web.port) as wire:
                clients = CutClients(kind, wire, token, tmp_path, SEED)
                await asyncio.to_thread(clients.until, WANTED)
            listed = (await api.get("/api/uploads")).json()["uploads"]
        sent = await asyncio.to_thread(clients.digests)
        assert {upload["state"] for upload in listed} == {"complete"}
        assert Counter(upload["sha256"] for upload in listed) == sent, "each file is one upload, and whole"
        assert await asyncio.to_thread(kept, process.config.data_dir) == sent, "and so it lies on the disk"
        assert not await asyncio.to_thread(lambda: list(uploads_dir(process.config.data_dir).glob("*.part")))
        created = [s.event for s in await (await nats.bus("tap")).read(0, "evt.job.created.>", 1024)]
        assert Counter(e.origin.fingerprint for e in created if isinstance(e, JobCreated)) == sent
        with capsys.disabled():
            cuts = ", ".join(f"{count} {how}" for how, count in sorted(clients.cuts.items()))
            sys.stdout.write(f"{clients.cuts.total()} cuts ({cuts}) of {sent.total()} uploads: all bytes equal\n")
    finally:
        await process.kill()


def kept(data_dir: Path) -> Counter[str]:
    """The digests of the stored files' bytes, each of which is the file's name as well."""
    files = list(content_path(data_dir, "x").parent.iterdir())
    digests = Counter(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    assert digests == Counter(file.name for file in files)
    return digests
