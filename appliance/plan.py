"""What a video would become on this box, before it is added: is it taken, with what, how long, how much of the disk.

Times are this box's own: seconds of work for each second of media that each stage took lately. A stage that has done
nothing yet has no forecast; none is made up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from msgspec import Struct, field

from appliance.config import Config
from appliance.services.figures import hour_key
from appliance.settings import Workers
from appliance.sqlite import sqlite3
from appliance.storage.admission import Room
from bus.events import CLIP_STAGES, JOB_STAGES, STAGES, JobOptions, StageName
from stages.artifacts import Probe
from stages.errors import StageError

LOOK_BACK = timedelta(days=30)


class Pace(Struct, frozen=True):
    """How fast a stage was lately."""

    real_time_factor: float
    """Seconds of work for each second of media."""
    done: int
    """Times that it rests on."""


class Tool(Struct, frozen=True):
    """What a stage would use."""

    name: str
    notes: list[str]
    """Fallbacks, and what would be better."""


class StagePlan(Struct, frozen=True, kw_only=True):
    """One stage of the plan."""

    stage: StageName
    runs: int
    """Once for the job, or once a clip."""
    media_s: float | None
    """Seconds of media of one run."""
    seconds: float | None
    """Of work in one run; None when the box has not done it yet, or the length is not known."""
    measured_on: int
    """Runs of this box that `seconds` rests on."""
    uses: str | None = None
    notes: list[str] = field(default_factory=list)


class Plan(Struct, frozen=True, kw_only=True):
    """The answer. Seconds are from the start of the job on a box that does nothing else."""

    name: str
    taken: bool
    """Whether it would be taken now."""
    hindrances: list[str]
    """Why not, or what it would wait for."""
    duration_s: float | None
    size_bytes: int | None
    clips: int
    clip_s: float
    """Length of a clip that times are reckoned with, the middle of what is asked for."""
    stages: list[StagePlan]
    first_clip_s: float | None
    total_s: float | None
    room: Room
    same: list[str]
    """Jobs of the same file, newest first."""


def paces(db: sqlite3.Connection, now: datetime) -> dict[StageName, Pace]:
    """What the stages did in the last 30 days; those that did nothing are left out."""
    found: dict[StageName, Pace] = {}
    query = "SELECT sum(seconds), sum(media_s), sum(done) FROM stage_hours WHERE stage = ? AND hour >= ?"
    for stage in STAGES:
        seconds, media_s, done = db.execute(query, (stage, hour_key(now - LOOK_BACK))).fetchone()
        if media_s:
            found[stage] = Pace(seconds / media_s, done)
    return found


def plan(
    name: str,
    config: Config,
    options: JobOptions,
    room: Room,
    *,
    probe: Probe | None,
    size_bytes: int | None,
    pace: Mapping[StageName, Pace],
    tools: Mapping[StageName, Tool],
    hindrances: list[str],
    same: list[str],
) -> Plan:
    """Put it together. `hindrances` are those of the source and the box; a disk without room is added here.

    first clip: the job's stages one after the other, then one clip's. total: from there the slowest clip stage, shared
    by its workers, for each further clip.
    """
    moments = config.stages.moments
    clips = moments.clips if options.clips is None else options.clips
    least = moments.min_length_s if options.min_length_s is None else options.min_length_s
    most = moments.max_length_s if options.max_length_s is None else options.max_length_s
    clip_s = (least + max(least, most)) / 2
    duration_s = None if probe is None else probe.duration_s
    rows = []
    for stage in STAGES:
        media_s = duration_s if stage in JOB_STAGES else clip_s
        known, tool = pace.get(stage), tools.get(stage)
        rows.append(
            StagePlan(
                stage=stage,
                runs=1 if stage in JOB_STAGES else clips,
                media_s=media_s,
                seconds=None if known is None or media_s is None else round(known.real_time_factor * media_s, 1),
                measured_on=0 if known is None else known.done,
                uses=None if tool is None else tool.name,
                notes=[] if tool is None else tool.notes,
            )
        )
    first = _sum(rows)
    hindered = [*hindrances, *([] if room.fits else [room.reason])]
    return Plan(
        name=name,
        taken=not hindered,
        hindrances=hindered,
        duration_s=duration_s,
        size_bytes=size_bytes if probe is None else probe.size_bytes,
        clips=clips,
        clip_s=clip_s,
        stages=rows,
        first_clip_s=first,
        total_s=None if first is None else round(first + (clips - 1) * _slowest(rows, config.workers), 1),
        room=room,
        same=same,
    )


def _sum(rows: list[StagePlan]) -> float | None:
    """None as soon as one of them is not known."""
    known = [row.seconds for row in rows if row.seconds is not None]
    return round(sum(known), 1) if len(known) == len(rows) else None


def _slowest(rows: list[StagePlan], workers: Workers) -> float:
    """Seconds between two clips once the first is there."""
    return max(
        (row.seconds or 0.0) / max(1, int(getattr(workers, row.stage).min)) for row in rows if row.stage in CLIP_STAGES
    )


def tools_of(config: Config, language: str | None) -> tuple[dict[StageName, Tool], list[str]]:
    """What the stages would use on this machine, and what they would fail for. Blocking, imports their libraries."""
    found: dict[StageName, Tool] = {}
    missing = []
    choices: dict[StageName, Callable[[], Tool]] = {
        "transcribe": lambda: _recogniser(config, language),
        "faces": lambda: _detector(config),
        "cut": lambda: _encoder(config),
    }
    for stage, choose in choices.items():
        try:
            found[stage] = choose()
        except StageError as error:
            missing.append(f"{stage}: {error}")
    return found, missing


def _recogniser(config: Config, language: str | None) -> Tool:
    from stages.speech.choice import Wish, choose

    options = config.stages.transcribe
    wish = Wish(
        model=options.model,
        device=options.device,
        compute_type=options.compute_type,
        beam_size=options.beam_size,
        batch_size=options.batch_size,
        threads=options.threads,
        language=language or options.language,
        models_dir=config.models_dir,
    )
    chosen = choose(wish)
    rough = ", rough" if chosen.rough else ""
    return Tool(f"{Path(chosen.model).name} ({chosen.device}{rough})", list(chosen.notes))


def _detector(config: Config) -> Tool:
    from stages.vision.detectors import choose_detector

    options = config.stages.faces
    detector, notes = choose_detector(options.detector, options.device, config.models_dir, min_score=options.min_score)
    return Tool(f"{detector.name} ({detector.device})", notes)


def _encoder(config: Config) -> Tool:
    from stages.media.encode import choose_encoder

    encoder = choose_encoder(config.stages.cut.device)
    return Tool(f"{encoder.name} ({encoder.device})", list(encoder.notes))
