"""`appliance jobs`: add, list, show, cancel, retry, pin, unpin, delete."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from appliance.cli import Session

if TYPE_CHECKING:
    from appliance.store.queries import JobRow, Store
    from bus.connection import Bus


@click.group()
def jobs() -> None:
    """Add, list, show, cancel, retry, pin and delete jobs.

    \b
    Example:
      appliance jobs add talk.mp4 --clips 3
      appliance jobs list
    """


@jobs.command()
@click.argument("video", metavar="VIDEO|URL")
@click.option("--clips", type=click.IntRange(1, 50), help="How many clips.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def add(session: Session, video: str, clips: int | None, as_json: bool) -> None:
    """Queue a VIDEO or URL on the running box and return at once.

    \b
    Example:
      appliance jobs add talk.mp4 --clips 5
    """
    from appliance.intake import create_job, source_of
    from appliance.storage.admission import Admission
    from bus.events import JobOptions

    source, admission = source_of(video), Admission(session.config)
    job = _on_bus(session, lambda bus: create_job(bus, source, JobOptions(clips=clips), admission=admission))
    click.echo(_json({"job": job}) if as_json else f"job {job} is queued: follow it with `appliance jobs show {job}`")


@jobs.command("list")
@click.option("--state", "states", multiple=True, help="Only jobs in this state; may be repeated.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="Most jobs to show.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.pass_obj
def list_jobs(session: Session, states: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List jobs, newest first.

    \b
    Example:
      appliance jobs list --state failed
    """
    import msgspec

    with _store(session) as store:
        rows = store.jobs(states=states, limit=limit)
    if as_json:
        click.echo(_json(msgspec.to_builtins(rows)))
        return
    if not rows:
        click.echo("no jobs")
    for row in rows:
        clips = f"{row.clips_ready}/{row.clips_planned} clips" if row.clips_planned is not None else ""
        doing = row.stage or ""
        click.echo(f"{row.job}  {row.state:10} {doing:10} {clips:11} {row.created_at[:19]}  {row.name}")
        if row.error:
            click.echo(f"    {row.error}")


@jobs.command()
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def show(session: Session, job: str, as_json: bool) -> None:
    """Show one job: its clips and each attempt of each stage.

    \b
    Example:
      appliance jobs show 01jd3v5n8q2w4e6r8t0y2u4i6p
    """
    import msgspec

    from appliance.errors import JobNotFound

    with _store(session) as store:
        row = store.job(job)
        if row is None:
            raise JobNotFound(f"no job {job}: `appliance jobs list` shows them")
        clips, attempts = store.clips(job), store.attempts(job)
    if as_json:
        told: dict[str, Any] = msgspec.to_builtins(row)
        click.echo(_json({**told, "clips": msgspec.to_builtins(clips), "attempts": msgspec.to_builtins(attempts)}))
        return
    _print_job(row, session)
    for clip in clips:
        where = f"  {clip.path}" if clip.path else f"  {clip.error or ''}"
        click.echo(f"  clip {clip.clip:2} {clip.state:8} {clip.start_s:8.1f}-{clip.end_s:.1f} s  {clip.title}{where}")
    for attempt in attempts:
        item = attempt.stage if attempt.clip is None else f"{attempt.stage} clip {attempt.clip}"
        took = f"{attempt.seconds:.1f} s" if attempt.seconds is not None else ""
        outcome = attempt.outcome or "interrupted or running"
        click.echo(
            f"  {attempt.started_at[11:19]} {item:18} attempt {attempt.attempt} {outcome} {took} {attempt.error or ''}"
        )


def _print_job(row: JobRow, session: Session) -> None:
    click.echo(f"{row.job}  {row.state}  {row.name}")
    if row.error:
        click.echo(f"  {row.error}")
    if row.pinned:
        click.echo("  pinned")
    for what, removed_at in (
        ("its copy of the video", row.source_removed_at),
        ("its intermediate files", row.scratch_removed_at),
        ("its clips", row.clips_removed_at),
    ):
        if removed_at is not None:
            click.echo(f"  {what}: removed by retention on {removed_at[:10]}")
    click.echo(f"  files: {session.config.data_dir / 'output' / row.job}")
    click.echo(f"  log:   {session.config.data_dir / 'jobs' / row.job / 'job.log'}")


@jobs.command()
@click.argument("job")
@click.pass_obj
def cancel(session: Session, job: str) -> None:
    """Stop a job now; what it has made so far is kept for a retry.

    \b
    Example:
      appliance jobs cancel 01jd3v5n8q2w4e6r8t0y2u4i6p
    """
    from appliance.intake import cancel_job

    done = _on_bus(session, lambda bus: cancel_job(bus, job, by="cli"))
    click.echo("cancelled" if done else "the job had ended already")


@jobs.command()
@click.argument("job")
@click.pass_obj
def retry(session: Session, job: str) -> None:
    """Let a failed or cancelled job go on where it stopped.

    \b
    Example:
      appliance jobs retry 01jd3v5n8q2w4e6r8t0y2u4i6p
    """
    from appliance.intake import retry_job

    async def run(bus: Bus) -> str:
        items = await retry_job(bus, session.config.data_dir / "appliance.db", job, by="cli")
        return ", ".join(i.stage if i.clip is None else f"{i.stage} of clip {i.clip}" for i in items)

    click.echo(f"going on: {_on_bus(session, run)}")


@jobs.command()
@click.argument("job")
@click.pass_obj
def pin(session: Session, job: str) -> None:
    """Keep a job's files whatever their age and however full the disk; see `appliance storage`.

    \b
    Example:
      appliance jobs pin 01jd3v5n8q2w4e6r8t0y2u4i6p
    """
    from appliance.intake import pin_job

    _on_bus(session, lambda bus: pin_job(bus, job, by="cli"))
    click.echo("pinned: only `appliance jobs delete` removes its files now")


@jobs.command()
@click.argument("job")
@click.pass_obj
def unpin(session: Session, job: str) -> None:
    """Let retention remove a pinned job's files again.

    \b
    Example:
      appliance jobs unpin 01jd3v5n8q2w4e6r8t0y2u4i6p
    """
    from appliance.intake import pin_job

    _on_bus(session, lambda bus: pin_job(bus, job, by="cli", pinned=False))
    click.echo("unpinned")


@jobs.command()
@click.argument("job")
@click.pass_obj
def delete(session: Session, job: str) -> None:
    """Remove a job's files, clips included; its history stays.

    \b
    Example:
      appliance jobs delete 01jd3v5n8q2w4e6r8t0y2u4i6p
    """
    from appliance.intake import delete_job

    _on_bus(session, lambda bus: delete_job(bus, job, by="cli"))
    click.echo("deleted")


def _on_bus(session: Session, work: Callable[[Bus], Awaitable[Any]]) -> Any:
    from appliance.boxlink import connect

    async def run() -> Any:
        async with await connect(session.config) as bus:
            return await work(bus)

    return asyncio.run(run())


def _store(session: Session) -> Store:
    from appliance.store.queries import Store

    return Store(session.config.data_dir / "appliance.db")


def _json(value: object) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value)).decode()
