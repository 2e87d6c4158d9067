"""The crop stage: one plan file per clip that says how every shot is framed. Writes `clips/<n>/crop.json`.

The plan is what everything after it reads: the renderer, an editor, a diff, a metric. Positions are floats.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from stages.artifacts import CropPlan, Faces, ShotPlan
from stages.base import CropResult, Report, Task
from stages.errors import Transient
from stages.folder import JobFolder


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How clips are framed."""

    width: Annotated[
        int, Meta(ge=2, le=4320, multiple_of=2, description="Width of the output picture in pixels, even.")
    ] = 1080
    height: Annotated[
        int, Meta(ge=2, le=7680, multiple_of=2, description="Height of the output picture in pixels, even.")
    ] = 1920
    margin: Annotated[
        float,
        Meta(ge=0, le=1, description="Room that stays inside the frame around a face, as a share of the face's size "
                                     "on each side."),
    ] = 0.15  # fmt: skip
    headroom: Annotated[
        float,
        Meta(ge=0, le=0.4, description="Least room above a face, as a share of the window's height, where the window "
                                       "is lower than the picture."),
    ] = 0.1  # fmt: skip
    max_speed: Annotated[
        float,
        Meta(ge=0.01, le=10, description="Fastest camera move, window widths per second. A face that moves faster may "
                                         "leave the frame; the plan then says so."),
    ] = 0.6  # fmt: skip
    comfort: Annotated[
        float,
        Meta(ge=0, le=0.4, description="How far off its ideal place a face may be before the camera moves, as a share "
                                       "of the window."),
    ] = 0.12  # fmt: skip
    max_upscale: Annotated[
        float,
        Meta(ge=1, le=8, description="Most enlargement of source pixels when a window is tightened around a small "
                                     "face. A source whose full height needs more is used at full height."),
    ] = 2.2  # fmt: skip
    small_face: Annotated[
        float,
        Meta(ge=0, le=0.5, description="Faces lower than this share of the full-height window get a tighter window."),
    ] = 0.12  # fmt: skip
    good_face: Annotated[
        float,
        Meta(ge=0.02, le=0.9, description="Height of the face in a tightened window, as a share of it."),
    ] = 0.18  # fmt: skip
    min_shot_s: Annotated[
        float, Meta(ge=0.1, le=10, description="Seconds that one framing stays at least, within a shot.")
    ] = 1.0
    min_confidence: Annotated[
        float,
        Meta(ge=0, le=1, description="Below this confidence a speaker is not believed and both people are shown."),
    ] = 0.2  # fmt: skip
    quick_turn_s: Annotated[
        float,
        Meta(ge=0, le=10, description="Two people whose turns are all shorter than these seconds are shown together."),
    ] = 1.6  # fmt: skip
    hold_s: Annotated[
        float, Meta(ge=0, le=30, description="Seconds that a face may be away before the whole picture is shown.")
    ] = 2.5


def run(task: Task, folder: JobFolder, options: Options, report: Report) -> CropResult:
    """Plan the framing of the clip. Raises `Transient` when faces.json is missing."""
    if task.clip is None:
        raise Transient("the crop stage works on one clip, and the task names none", "clip-unnamed")
    plan = plan_crop(folder.faces(task.clip), options, report)
    folder.save(folder.clip_dir(task.clip) / "crop.json", plan)
    report(1.0)
    return CropResult(layouts=list(dict.fromkeys(shot.layout for shot in plan.shots)), notes=plan.notes)


def plan_crop(faces: Faces, options: Options, report: Report | None = None) -> CropPlan:
    """The plan for one clip: pure, deterministic. Every shot border of `faces` is a border of the plan."""
    from stages.vision.planner import Planner

    planner = Planner(faces, options)
    plans: list[ShotPlan] = []
    for number, shot in enumerate(faces.shots):
        plans += planner.shot(number, shot)
        if report is not None:
            report(0.95 * (number + 1) / len(faces.shots))
    return CropPlan(
        start_s=faces.start_s, end_s=faces.end_s, width=options.width, height=options.height,
        shots=plans, notes=planner.notes,
    )  # fmt: skip
