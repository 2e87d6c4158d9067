"""`appliance workers` and `appliance worker STAGE`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from appliance.cli import Session

if TYPE_CHECKING:
    from bus.registry import WorkerState

STAGE_NAMES = ("download", "transcribe", "moments", "faces", "crop", "cut")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.pass_obj
def workers(session: Session, as_json: bool) -> None:
    """List the workers that report, and what each works on.

    \b
    Example:
      appliance workers
    """
    import msgspec

    rows = asyncio.run(_workers(session))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
        return
    if not rows:
        click.echo("no worker reports")
    for row in rows:
        work = "idle" if row.job is None else f"job {row.job}" + (f" clip {row.clip}" if row.clip else "")
        share = f" {row.progress:.0%}" if row.progress is not None and row.job else ""
        memory = f"{row.rss_bytes / 2**20:.0f} MiB" if row.rss_bytes else ""
        if row.gpu_memory_bytes:
            memory += f" + {row.gpu_memory_bytes / 2**20:.0f} MiB on the card"
        click.echo(f"{row.stage:11} {row.worker} {row.host} pid {row.pid:<7} {memory:>8}  {work}{share}")


async def _workers(session: Session) -> list[WorkerState]:
    from appliance.boxlink import connect
    from bus.registry import Registry

    async with await connect(session.config) as bus:
        rows = await Registry(bus).all()
    return sorted(rows, key=lambda row: (STAGE_NAMES.index(row.stage), row.worker))


@click.command()
@click.argument("stage", type=click.Choice(STAGE_NAMES))
@click.pass_obj
def worker(session: Session, stage: str) -> None:
    """Run one more worker of STAGE against the running box, in the foreground.

    \b
    Example:
      appliance worker cut
    """
    import os

    from appliance.supervisor.programs import CONFIG_VARIABLE, config_to_child
    from appliance.worker.__main__ import main
    from bus.events import STAGES

    os.environ[CONFIG_VARIABLE] = config_to_child(session.config)
    main(next(name for name in STAGES if name == stage))
