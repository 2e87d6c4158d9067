"""What the sweep of the uploads leaves alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from appliance.config import Config
from appliance.uploads import part_path
from bus.ids import new_id
from web.uploads.sweep import Sweeper


async def test_an_upload_that_begins_while_the_sweep_looks_keeps_its_bytes(tmp_path: Path) -> None:
    lost, begun = new_id(), new_id()
    rows: list[SimpleNamespace] = []
    part_path(tmp_path, lost).parent.mkdir()
    part_path(tmp_path, lost).write_bytes(b"of no row")
    looked = threading.Event()

    def begin() -> None:
        """Once the first of the two looks is over: row, then file, and its lease is given back."""
        if not looked.is_set():
            looked.set()
            rows.append(SimpleNamespace(id=begun))
            part_path(tmp_path, begun).write_bytes(b"acknowledged")

    async def run(work: Callable[[], Any]) -> Any:
        found = await asyncio.to_thread(work)
        await asyncio.to_thread(begin)
        return found

    async def read(_query: object) -> list[SimpleNamespace]:
        found = list(rows)
        await asyncio.to_thread(begin)
        return found

    uploads = SimpleNamespace(
        config=Config(data_dir=tmp_path), leases=set[str](), db=SimpleNamespace(read=read), run=run
    )
    await Sweeper(cast(Any, uploads), cast(Any, None), cast(Any, None))._orphans()
    left = await asyncio.to_thread(lambda: [part_path(tmp_path, ident).exists() for ident in (lost, begun)])
    assert left == [False, True]
