"""`appliance storage`: what uses how much of the disk, what the next job will need, what retention would remove."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from appliance.cli import Session
from appliance.cli.person import who

if TYPE_CHECKING:
    from appliance.storage.report import StorageReport
    from appliance.storage.sample import StorageSample

SHOWN = 10


@click.command()
@click.option("--sweep", is_flag=True, help="Ask the running box to remove now what retention would.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def storage(session: Session, sweep: bool, as_json: bool) -> None:
    """Show what uses how much of the data volume, what a job will need, and what retention would remove now.

    Works without a running box, except for --sweep.

    \b
    Example:
      appliance storage
      appliance storage --json
      appliance storage --sweep
    """
    import msgspec

    from appliance.storage.report import report

    found = report(session.config)
    guard = asyncio.run(_guard(session))
    if as_json:
        told = {**msgspec.to_builtins(found), "guard": msgspec.to_builtins(guard)}
        click.echo(msgspec.json.format(msgspec.json.encode(told)).decode())
    else:
        if guard is not None and guard.reason is not None:
            click.secho(f"storage is {guard.level}: {guard.reason}", fg="yellow", bold=True)
        if guard is not None and guard.exhausted:
            click.secho(
                "space is short, and retention may remove nothing more: delete jobs, or unpin some", fg="yellow"
            )
        _print(found)
    if sweep:
        asyncio.run(_ask(session))
        if not as_json:
            click.echo("a sweep is asked for: `appliance events tap 'evt.file.deleted.>'` shows what goes")


async def _guard(session: Session) -> StorageSample | None:
    """What the running box's guard says; None without one."""
    from datetime import UTC, datetime

    from appliance.boxlink import connect
    from appliance.errors import BoxNotRunning
    from appliance.storage.sample import latest_storage
    from bus.errors import BusError

    try:
        async with await connect(session.config) as bus:
            return await latest_storage(bus, datetime.now(UTC))
    except (BoxNotRunning, BusError):
        return None


async def _ask(session: Session) -> None:
    from appliance.boxlink import connect
    from appliance.storage.sweep import SWEEP
    from bus.events import UserAction

    async with await connect(session.config) as bus:
        await bus.publish(UserAction(source="cli", user=who(), action=SWEEP))


def _print(found: StorageReport) -> None:
    from appliance.storage.volume import size_text

    click.echo(f"{size_text(found.free_bytes)} of {size_text(found.total_bytes)} free on the volume of {found.path}")
    if found.open_jobs:
        click.echo(f"  {size_text(found.promised_bytes)} of it will be needed by {found.open_jobs} open jobs")
    click.echo(f"  {size_text(found.reserve_bytes)} stay in reserve: no new job may count on them")
    click.echo(f"  below {size_text(found.floor_bytes)} free intake closes by itself")
    basis = f"learned from {found.typical.learned_from} jobs" if found.typical.learned_from else "by default ratios"
    click.echo(f"  a typical job needs {found.typical} ({basis})")
    for kind, count in found.uses.items():
        if count:
            click.echo(f"{kind:10}{size_text(count):>10}")
    for job in found.largest[:SHOWN]:
        marks = " pinned" if job.pinned else ""
        click.echo(f"  {job.job}  {job.state:10}{size_text(job.bytes.total_bytes):>10}{marks}  {job.name}")
    if not found.next:
        click.echo("retention would remove nothing now")
        return
    click.echo(f"retention would remove now {size_text(found.next_bytes)}:")
    for removal in found.next[:SHOWN]:
        click.echo(f"  {removal.kind:8}{size_text(removal.size_bytes):>10}  {removal.path}  {removal.reason}")
    if len(found.next) > SHOWN:
        click.echo("  … (--json shows more)")
