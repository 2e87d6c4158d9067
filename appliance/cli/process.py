"""`appliance process`: one video in, clips out, with progress on the way."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.cli import Session

if TYPE_CHECKING:
    from appliance.boxlink import Link
    from appliance.config import Config
    from appliance.progress import JobView
    from appliance.store.queries import ClipRow, JobRow
    from bus.events import JobOptions, JobSource

COMPANIONS = (".mp4", ".srt", ".vtt", ".jpg", ".json")


@click.command()
@click.argument("video", metavar="VIDEO|URL")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Copy the finished clips there.")
@click.option("--clips", type=click.IntRange(1, 50), help="How many clips. Default: the moments stage's setting.")
@click.option("--length", metavar="MIN..MAX", help="Length of a clip in seconds, for example 15..60.")
@click.option("--language", help="Spoken language, for example en. Default: detected.")
@click.option("--no-captions", is_flag=True, help="Do not burn captions in; .srt and .vtt are written all the same.")
@click.option("--again", is_flag=True, help="Start afresh even if this video was processed before.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end and nothing else.")
@click.pass_obj
def process(
    session: Session,
    video: str,
    out: Path | None,
    clips: int | None,
    length: str | None,
    language: str | None,
    no_captions: bool,
    again: bool,
    as_json: bool,
) -> None:
    """Make vertical captioned clips from a long VIDEO or URL.

    Uses the running box of the same configuration, else starts one for this job. Ctrl-C stops the job cleanly; the same
    command goes on where it stopped.

    \b
    Example:
      appliance process talk.mp4 --clips 3 --out clips/
      appliance process talk.mp4 --length 20..45 --json
    """
    from appliance.intake import source_of
    from bus.events import JobOptions

    shortest, longest = _length(length)
    options = JobOptions(
        clips=clips, min_length_s=shortest, max_length_s=longest, language=language, captions=not no_captions
    )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)  # better refused now than after an hour of work
    code = asyncio.run(_process(session.config, source_of(video), options, out, again=again, as_json=as_json))
    sys.exit(code)


def _length(text: str | None) -> tuple[float | None, float | None]:
    if text is None:
        return None, None
    low, dots, high = text.partition("..")
    try:
        shortest, longest = float(low), float(high if dots else low)
    except ValueError:
        raise click.BadParameter(
            f"{text!r}: write MIN..MAX in seconds, for example 15..60", param_hint="--length"
        ) from None
    if not 1.0 <= shortest <= longest <= 600.0:
        raise click.BadParameter(f"{text!r}: 1 <= MIN <= MAX <= 600 seconds", param_hint="--length")
    return shortest, longest


async def _process(
    config: Config, source: JobSource, options: JobOptions, out: Path | None, *, again: bool, as_json: bool
) -> int:
    from appliance.boxlink import running_or_embedded
    from appliance.cli.screen import PlainScreen, RichScreen
    from appliance.control.ledger import read_holds
    from appliance.follow import follow
    from appliance.intake import cancel_job
    from appliance.progress import JobView

    loop = asyncio.get_running_loop()
    interrupted = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted.set)
    screen = PlainScreen(sys.stderr, quiet=as_json) if as_json or not sys.stdout.isatty() else RichScreen()
    screen.say("starting" if not as_json else "")
    async with running_or_embedded(config) as link:
        job, how = await _job_for(link, config, source, options, again=again)
        screen.say(f"job {job} ({how})")
        for hold in await read_holds(link.bus):
            screen.say(f"note: {hold.target} is {hold}")
        view = JobView(job)
        with screen.showing(view):
            following = asyncio.create_task(follow(link.bus, view, screen.changed))
            stopping = asyncio.create_task(interrupted.wait())
            await asyncio.wait([following, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                await cancel_job(link.bus, job, by="cli", reason="interrupted")
            stopping.cancel()
            await following
    return _finish(config, view, out, screen, as_json=as_json)


async def _job_for(
    link: Link, config: Config, source: JobSource, options: JobOptions, *, again: bool
) -> tuple[str, str]:
    """The job to follow for this source: an earlier one that can go on, or a new one."""
    from appliance.errors import IntakeRefused
    from appliance.intake import create_job, retry_job
    from appliance.storage.admission import Admission

    database = config.data_dir / "appliance.db"
    earlier = [] if again else await asyncio.to_thread(_earlier_jobs, config, source, options)
    for row, complete in earlier:
        if row.state in ("queued", "running", "clipping"):
            return row.job, "going on"
        if complete:
            return row.job, "made before; --again makes it anew"
        try:
            items = await retry_job(link.bus, database, row.job, by="cli")
        except IntakeRefused:
            continue
        return row.job, f"going on at {items[0].stage}"
    return await create_job(link.bus, source, options, admission=Admission(config)), "new"


def _earlier_jobs(config: Config, source: JobSource, options: JobOptions) -> list[tuple[JobRow, bool]]:
    """Jobs of the same source and options, newest first, each with whether all its clips are there."""
    from appliance.errors import StoreDamaged
    from appliance.store.queries import Store
    from appliance.store.rules import text

    if source.fingerprint is None:
        return []
    try:
        with Store(config.data_dir / "appliance.db") as store:
            rows = [row for row in store.jobs_of(source.fingerprint) if row.options == text(options)]
            return [(row, _complete(config, row, store.clips(row.job))) for row in rows]
    except StoreDamaged:
        return []  # the very first job: there is no database to look into


def _complete(config: Config, row: JobRow, clips: list[ClipRow]) -> bool:
    folder = config.data_dir / "output" / row.job
    made = all(clip.path is not None and (folder / clip.path).exists() for clip in clips)
    return row.state == "completed" and not row.clips_failed and made


def _finish(config: Config, view: JobView, out: Path | None, screen: Any, *, as_json: bool) -> int:
    """Deliver the clips and say how it went; the exit code."""
    folder = (config.data_dir / "output" / view.job).absolute()
    if out is not None and view.state == "completed":
        folder = _deliver(view, folder, out.absolute())
    if as_json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(_report(view, folder))).decode())  # noqa: T201
    else:
        screen.result(view, folder)
    return 0 if view.state == "completed" else 1


def _deliver(view: JobView, folder: Path, out: Path) -> Path:
    """Copy each ready clip and its companions to `out`; existing files of the same name are replaced whole."""
    from stages.folder import publish

    for clip in view.clips.values():
        if clip.ready is None:
            continue
        for suffix in COMPANIONS:
            made = (folder / clip.ready.path).with_suffix(suffix)
            if made.exists():
                with publish(out / made.name) as part:
                    shutil.copyfile(made, part)
    return out


def _report(view: JobView, folder: Path) -> dict[str, Any]:
    now = datetime.now(UTC)
    clips: list[dict[str, Any]] = []
    for clip in view.clips.values():
        plan, ready = clip.plan, clip.ready
        if ready is None:
            continue
        path = folder / ready.path
        clips.append(
            {
                "clip": clip.clip,
                "start_s": plan.start_s,
                "end_s": plan.end_s,
                "duration_s": ready.duration_s,
                "score": plan.score,
                "title": plan.title,
                "reasons": plan.reasons,
                "width": ready.width,
                "height": ready.height,
                "loudness_lufs": ready.loudness_lufs,
                "encoder": ready.encoder,
                "size_bytes": ready.size_bytes,
                "sha256": ready.sha256,
                "path": str(path),
                **{name: str(path.with_suffix(suffix)) for name, suffix in _NAMES.items()},
            }
        )
    failed = [
        {"clip": c.clip, "stage": c.failed.stage, "error": c.failed.error, "code": c.failed.code}
        for c in view.clips.values()
        if c.failed is not None and c.ready is None
    ]
    stages = {
        name: {
            "seconds": round(stage.seconds, 3),
            "times_real_time": _rounded(view.speed(name, now)),
            "retries": stage.retries,
        }
        for name, stage in view.stages.items()
    }
    return {
        "job": view.job,
        "state": view.state,
        "error": view.error,
        "source": view.created.origin.name if view.created else None,
        "duration_s": view.duration_s,
        "seconds": view.completed.seconds if view.completed else None,
        "clips": clips,
        "failed": failed,
        "stages": stages,
        "notes": view.notes,
    }


_NAMES = {"srt": ".srt", "vtt": ".vtt", "thumbnail": ".jpg", "sidecar": ".json"}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
