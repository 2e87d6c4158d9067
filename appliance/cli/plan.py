"""`appliance plan`: what a video would become, before it is added."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from appliance.cli import Session

if TYPE_CHECKING:
    from datetime import datetime

    from appliance.config import Config
    from appliance.plan import Pace, Plan
    from bus.events import JobOptions, StageName
    from stages.artifacts import Probe


@click.command()
@click.argument("video", metavar="VIDEO|URL")
@click.option("--clips", type=click.IntRange(1, 50), help="How many clips.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def plan(session: Session, video: str, clips: int | None, as_json: bool) -> None:
    """Say what VIDEO would become: whether it is taken, with what models, how long it takes, how much disk it needs.

    Times are those of this box's own jobs of the last 30 days. Nothing is added.
    Exit code 1 when it would not be taken.

    \b
    Example:
      appliance plan talk.mp4 --clips 5
    """
    import msgspec

    from bus.events import JobOptions

    found = asyncio.run(_plan(session.config, video, JobOptions(clips=clips)))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        _print(found)
    if not found.taken:
        raise SystemExit(1)


async def _plan(config: Config, video: str, options: JobOptions) -> Plan:
    """Raises `IntakeRefused` for what is no source at all, `SourceUnavailable`."""
    from datetime import UTC, datetime

    from appliance.intake import source_of
    from appliance.plan import plan as put_together
    from appliance.plan import tools_of
    from appliance.storage.admission import Admission, size_of

    source = await asyncio.to_thread(source_of, video)
    size_bytes = await asyncio.to_thread(size_of, source, config.data_dir)
    room = await Admission(config).room_for(size_bytes, options)
    hindrances = []
    probe = None
    if source.kind == "file":
        probe, refusal = await asyncio.to_thread(_probe, config, source.location)
        hindrances += refusal
    tools, missing = await asyncio.to_thread(tools_of, config, options.language)
    pace, same = await asyncio.to_thread(_stored, config, source.fingerprint, datetime.now(UTC))
    return put_together(
        source.name,
        config,
        options,
        room,
        probe=probe,
        size_bytes=size_bytes,
        pace=pace,
        tools=tools,
        hindrances=[*hindrances, *missing, *await _held(config)],
        same=same,
    )


def _probe(config: Config, location: str) -> tuple[Probe | None, list[str]]:
    from pathlib import Path

    from stages.download import check_content
    from stages.errors import StageError
    from stages.media.confined import probe_sandboxed
    from stages.media.sniff import read_head

    options = config.stages.download
    path = Path(location)
    try:
        check_content(read_head(path), path.name)
        return probe_sandboxed(
            path, options.limits(), memory_bytes=options.check_memory_bytes, wall_s=options.check_timeout_s
        ), []
    except StageError as error:
        return None, [str(error)]


def _stored(config: Config, fingerprint: str | None, now: datetime) -> tuple[dict[StageName, Pace], list[str]]:
    from contextlib import closing

    from appliance.errors import StoreDamaged
    from appliance.plan import paces
    from appliance.store.database import open_reader
    from appliance.store.queries import Store

    path = config.data_dir / "appliance.db"
    try:
        with closing(open_reader(path)) as db:
            pace = paces(db, now)
        with Store(path) as store:
            return pace, [] if fingerprint is None else [row.job for row in store.jobs_of(fingerprint)]
    except StoreDamaged:
        return {}, []  # no box has run here yet


async def _held(config: Config) -> list[str]:
    """What a running box holds back: its intake, or a stage."""
    from appliance.boxlink import connect
    from appliance.control.ledger import read_holds
    from appliance.supervisor.lock import box_pid

    if await asyncio.to_thread(box_pid, config.data_dir) is None:
        return []
    async with await connect(config) as bus:
        return [f"{hold.target} is {hold}" for hold in await read_holds(bus)]


def _print(found: Plan) -> None:
    verdict = click.style("taken", fg="green") if found.taken else click.style("not now", fg="red")
    length = "unknown length" if found.duration_s is None else f"{found.duration_s / 60:.1f} min"
    click.echo(f"{found.name}: {length}, {found.clips} clips of about {found.clip_s:.0f} s: {verdict}")
    for hindrance in found.hindrances:
        click.echo(f"  → {hindrance}")
    for job in found.same[:3]:
        click.echo(f"  the same file is job {job} already")
    click.echo(f"{'stage':12}{'work':>16}  with")
    for row in found.stages:
        work = "no figures yet" if row.seconds is None else f"{row.seconds:.0f} s"
        work = work if row.runs == 1 or row.seconds is None else f"{row.runs} x {work}"
        click.echo(f"{row.stage:12}{work:>16}  {row.uses or ''}")
        for note in row.notes:
            click.echo(f"{'':30}{note}")
    if found.first_clip_s is not None and found.total_s is not None:
        click.echo(f"first clip after about {found.first_clip_s:.0f} s, all after {found.total_s:.0f} s")
    click.echo(f"disk: {found.room.reason}")
