"""`appliance why`: why a job is where it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from appliance.cli import Session

if TYPE_CHECKING:
    from appliance.config import Config
    from appliance.control.holds import Hold
    from appliance.store.queries import ClipRow, JobRow
    from appliance.why import Case

COLOURS = {"working": "green", "ended": "green", "failed": "red", "stuck": "red"}


@click.command()
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def why(session: Session, job: str, as_json: bool) -> None:
    """Say why JOB is where it is, and what to do: its place in a queue, a pause, the next try, a missing worker.

    \b
    Example:
      appliance why 01jd3v5n8q2w4e6r8t0y2u4i6p
    """
    from datetime import UTC, datetime

    import msgspec

    from appliance.why import explain

    case = asyncio.run(_case(session.config, job))
    reasons = explain(case, datetime.now(UTC))
    if as_json:
        told = {"job": job, "state": case.job.state, "name": case.job.name, "reasons": reasons}
        click.echo(msgspec.json.format(msgspec.json.encode(told)).decode())
        return
    click.echo(f"{case.job.job}  {case.job.state}  {case.job.name}")
    for reason in reasons:
        part = "" if reason.clip is None else f"clip {reason.clip}: "
        state = click.style(f"{reason.state:8}", fg=COLOURS.get(reason.state, "yellow"))
        click.echo(f"  {state} {part}{reason.why}")
        if reason.do:
            click.echo(f"           → {reason.do}")


async def _case(config: Config, job: str) -> Case:
    """What is known of the job. Raises `JobNotFound`, `StoreDamaged`."""
    from msgspec.structs import replace

    from appliance.boxlink import connect
    from appliance.control.ledger import read_holds
    from appliance.errors import JobNotFound
    from appliance.lifecycle import pending_command
    from appliance.store.queries import Store
    from appliance.supervisor.lock import box_pid
    from appliance.why import Case
    from bus.registry import Registry

    def stored() -> tuple[JobRow | None, list[ClipRow], int]:
        with Store(config.data_dir / "appliance.db") as store:
            return store.job(job), store.clips(job), store.cursor()

    row, clips, cursor = await asyncio.to_thread(stored)
    if row is None:
        raise JobNotFound(f"no job {job}: `appliance jobs list` shows them")
    known = Case(job=row, clips=clips, attempts_most=config.retry.attempts, running=False)
    if await asyncio.to_thread(box_pid, config.data_dir) is None:
        return known
    async with await connect(config) as bus:
        items = [None, *(clip.clip for clip in clips if clip.state not in ("ready", "failed"))]
        last = {}
        places = {}
        for item in items:
            found = await bus.last_fact(job, item)
            if found is None:
                continue
            last[item] = found.event
            command = pending_command(job, item, found.event)
            if command is not None:
                places[item] = await bus.queue_place(command.stage, job, item)
        holds: dict[str, list[Hold]] = {}
        for hold in await read_holds(bus):
            holds.setdefault(hold.target, []).append(hold)
        facts = await bus.read(cursor, "evt.>", 1000)
        return replace(
            known,
            running=True,
            last=last,
            places=places,
            holds=holds,
            workers=await Registry(bus).all(),
            behind=len(facts),
        )
