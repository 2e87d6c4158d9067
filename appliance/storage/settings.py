"""The settings of admission and retention (`admission` and `retention` of `appliance.settings`)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

MIB = 1024**2


class Admission(Struct, frozen=True, kw_only=True):
    """Which jobs the disk has room for, and when intake closes by itself."""

    reserve_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of the data volume that no new job may count on: one whose forecast, together with what "
            "the open jobs will still need, would eat into them is refused.",
        ),
    ] = 5_000_000_000
    floor_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="Free bytes on the data volume below which intake closes by itself; jobs that run go on and "
            "use what is left.",
        ),
    ] = 2_000_000_000
    max_percent: Annotated[
        float,
        Meta(
            gt=0,
            le=100,
            description="On a small volume the reserve is at most this percentage of it; the floor shrinks alike.",
        ),
    ] = 5.0
    resume_margin: Annotated[
        float,
        Meta(ge=1, le=10, description="Intake opens again by itself when this many times the floor are free."),
    ] = 1.25
    full_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="Free bytes below which the stages take nothing new either, until there is room again: what "
            "would fail for want of space waits instead.",
        ),
    ] = 64 * MIB
    ballast_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=16 * 1024 * MIB,
            description="Bytes kept in the file run/ballast, which is given up on a full disk, so that the box can "
            "still write down what you delete. 0: none.",
        ),
    ] = 32 * MIB
    check_s: Annotated[
        float, Meta(ge=0.1, le=20, description="Seconds between two looks at the data volume's free space.")
    ] = 2.0


class Retention(Struct, frozen=True, kw_only=True):
    """What is removed by itself, and when. What belongs to open or pinned jobs never is."""

    enabled: Annotated[bool, Meta(description="Whether anything is removed by itself.")] = True
    every_s: Annotated[float, Meta(ge=1, le=604800, description="Seconds between two sweeps.")] = 3600.0
    free_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="Free bytes on the data volume, beyond what open jobs will still need, below which a sweep "
            "also removes what has not reached its age but can be made or fetched again, until so much is free. "
            "Never less than admission.reserve_bytes.",
        ),
    ] = 10_000_000_000
    orphans_after_s: Annotated[
        float,
        Meta(ge=60, le=2_592_000, description="Seconds after which files that belong to no job are removed."),
    ] = 3600.0
    keep_jobs: Annotated[
        int,
        Meta(ge=0, le=100_000, description="The newest ended jobs with files that keep them all whatever their age."),
    ] = 10
    scratch_days: Annotated[
        float,
        Meta(
            ge=0,
            le=36_500,
            description="Days after a completed job's end until its intermediate files go: transcript, moments, faces, "
            "crop plans. Without them its clips cannot be rendered anew. 0: never.",
        ),
    ] = 30.0
    source_days: Annotated[
        float,
        Meta(
            ge=0,
            le=36_500,
            description="Days after a job's end until its copy of the source video goes, when every clip is ready. "
            "0: never.",
        ),
    ] = 14.0
    unfinished_days: Annotated[
        float,
        Meta(
            ge=0,
            le=36_500,
            description="Days until source and intermediate files of a job go that failed, was cancelled or lacks "
            "clips: so long it can be retried. 0: never.",
        ),
    ] = 30.0
    clips_days: Annotated[
        float, Meta(ge=0, le=36_500, description="Days after a job's end until its clips go. 0: never.")
    ] = 0.0
    clips_when_short: Annotated[
        bool,
        Meta(
            description="Whether the oldest clips go before their age when space is short and nothing else is left to "
            "remove."
        ),
    ] = False


def contradictions(admission: Admission) -> list[tuple[str, str]]:
    """What does not fit together: dotted key, and what is wrong."""
    found = []
    if admission.floor_bytes > admission.reserve_bytes:
        text = f"{admission.floor_bytes} is more than admission.reserve_bytes, {admission.reserve_bytes}"
        found.append(("admission.floor_bytes", f"{text}: intake would close before a job is refused"))
    if admission.full_bytes > admission.floor_bytes:
        text = f"{admission.full_bytes} is more than admission.floor_bytes, {admission.floor_bytes}"
        found.append(("admission.full_bytes", f"{text}: the stages would stop before intake does"))
    return found
