"""`appliance rebuild`: make the read model anew from either copy of the facts."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.cli import Session

if TYPE_CHECKING:
    from appliance.config import Config


@click.command()
@click.option("--from", "origin", type=click.Choice(["stream", "db"]), required=True, help="Which copy to trust.")
@click.pass_obj
def rebuild(session: Session, origin: str) -> None:
    """Rebuild the database's tables. The box must be down.

    --from db: from the facts inside the database. --from stream: a new database from the bus's stream; the old file is
    kept beside it. A lost stream needs no command: the next start puts its facts back from the database.

    \b
    Example:
      appliance down
      appliance rebuild --from stream
    """
    from appliance.supervisor.lock import lock_box

    config = session.config
    (config.data_dir / "run").mkdir(parents=True, exist_ok=True)
    lock = lock_box(config.data_dir)
    try:
        count = _from_db(config) if origin == "db" else asyncio.run(_from_stream(config))
    finally:
        os.close(lock)
    click.echo(f"rebuilt from {count} facts")


def _from_db(config: Config) -> int:
    from appliance.store.database import open_writer
    from appliance.store.projection import Projection

    connection = open_writer(config.data_dir / "appliance.db")
    try:
        return Projection(connection).replay()
    finally:
        connection.close()


async def _from_stream(config: Config) -> int:
    from appliance.dispatcher.recovery import stream_facts
    from appliance.errors import StoreDamaged
    from appliance.store.writer import Writer
    from appliance.supervisor.bus_only import bus_only

    path = config.data_dir / "appliance.db"
    fresh = path.with_suffix(".db.new")
    _remove(fresh)
    count = 0
    async with bus_only(config) as bus:
        state = await bus.stream_state()
        if path.exists() and await _cursor(path) > state.last_seq:
            raise StoreDamaged(
                "the stream holds fewer facts than the database: nothing was changed; start the box, "
                "which puts the missing facts back into the stream"
            )
        store = await Writer.open(fresh)
        try:
            await store.set_meta("epoch", state.epoch)
            async for batch in stream_facts(bus):
                count += len(batch)
                await store.apply(batch)
        finally:
            await store.close()
    if path.exists():
        path.replace(path.with_suffix(".db.old"))
    fresh.replace(path)
    return count


async def _cursor(path: Path) -> int:
    """How far the present database got; 0 when it cannot be read."""
    from appliance.errors import StoreDamaged
    from appliance.store.queries import Store

    try:
        with Store(path) as store:
            return store.cursor()
    except StoreDamaged:
        return 0


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
