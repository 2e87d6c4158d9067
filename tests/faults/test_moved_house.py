"""A real box takes a real video from its watch folder, is backed up at work, and goes on in another house."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from appliance.backup.create import create
from appliance.backup.restore import restore
from appliance.store.queries import ClipRow, Store
from bus.events import ClipPlanned, FileUploaded
from tests.faults.harness import RealBox, wait_for_end
from tests.media.maker import Spec, make

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
SETTINGS = "input: {settle_s: 0.5, poll_s: 0.2}\ncache: {url: 'off'}\n"


def clips_of(database: Path, job: str) -> list[ClipRow]:
    with Store(database) as store:
        return store.clips(job)


async def test_from_the_watch_folder_over_a_backup_to_clips(tmp_path: Path) -> None:
    made, _ = await asyncio.to_thread(make, Spec(seconds=16.0, width=640, height=360))
    file = tmp_path / "b.tar.gz"
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old, new = [await asyncio.to_thread(RealBox, tmp_path / name, SETTINGS) for name in ("old", "new")]
    await asyncio.to_thread(old.start)
    try:
        async with old.bus() as bus, bus.live("evt.*.*.>") as feed:
            await asyncio.to_thread(shutil.copy, made, old.config.data_dir / "input" / "a talk.mp4")
            job = None
            async with asyncio.timeout(120):
                while True:
                    fact = await feed.next(5.0)
                    if fact is not None and isinstance(fact.event, FileUploaded):
                        job = fact.event.job
                    if fact is not None and isinstance(fact.event, ClipPlanned):
                        break
        assert job is not None
        backup = await asyncio.to_thread(create, old.config, file, sources=True, clips=True)
        assert backup.left_out_jobs == 0
    finally:
        await asyncio.to_thread(old.kill_everything)
    await asyncio.to_thread(shutil.rmtree, old.folder)
    await asyncio.to_thread(restore, file, new.config.data_dir)
    await asyncio.to_thread(new.start)
    try:
        assert await wait_for_end(new, [job], 120) == {job: "completed"}
        clips = await asyncio.to_thread(clips_of, new.database, job)
        assert clips
        for clip in clips:
            assert clip.path is not None
            made_clip = new.config.data_dir / "output" / job / Path(clip.path).name
            assert (await asyncio.to_thread(made_clip.stat)).st_size == clip.size_bytes
    finally:
        await asyncio.to_thread(new.stop)
