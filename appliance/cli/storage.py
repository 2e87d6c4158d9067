"""`appliance storage`: what uses how much of the disk, what the next job will need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from appliance.cli import Session

if TYPE_CHECKING:
    from appliance.storage.report import StorageReport

SHOWN = 10


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def storage(session: Session, as_json: bool) -> None:
    """Show what uses how much of the data volume, and what a job will need.

    Works without a running box.

    \b
    Example:
      appliance storage
      appliance storage --json
    """
    import msgspec

    from appliance.storage.report import report

    found = report(session.config)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        _print(found)


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
