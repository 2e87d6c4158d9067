"""The faces stage: shots, faces, who is who, and who speaks, for one clip.

Decodes only the clip's own range, once, at reduced size. Writes `clips/<n>/faces.json`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from stages.artifacts import Faces, Probe, Span
from stages.base import Device, FacesResult, PlannedClip, Report, Task
from stages.errors import Rejected, StageError, Transient
from stages.folder import JobFolder
from stages.media.audio import read_audio
from stages.media.limits import DEFAULT_LIMITS, MediaLimits
from stages.media.prefetch import prefetched
from stages.media.video import read_frames, upright_size
from stages.vision.detectors import DetectorName, choose_detector

PREFETCHED_FRAMES = 8
"""Small pictures decoded ahead while faces are searched; each is at most 640 x 640 x 3 bytes."""


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How faces are found and followed."""

    device: Annotated[
        Device,
        Meta(description="Where faces are searched: auto takes a CUDA card when it and the gpu extra are there, else "
                         "the CPU with a note; cuda fails when they are not."),
    ] = "auto"  # fmt: skip
    detector: Annotated[
        DetectorName,
        Meta(description="Face detector: auto takes the best there is (yolo on CUDA, yunet when its model is on the "
                         "box, else the bundled cascade) and notes it; a named one fails when it is missing."),
    ] = "auto"  # fmt: skip
    speaker: Annotated[
        Literal["auto", "signal", "lrasd"],
        Meta(description="How it is told who of several people speaks: signal compares mouth motion with the voice and "
                         "needs no model; lrasd adds a network that watches lips and sound (on the CPU about 0.15 s of "
                         "work per second and face); auto takes lrasd when its model is on the box, else signal with a "
                         "note."),
    ] = "auto"  # fmt: skip
    models_dir: Annotated[Path | None, Meta(description="Folder of the model files. null: <data_dir>/models.")] = None
    sample_fps: Annotated[
        float,
        Meta(ge=0, le=60, description="Searches for faces per second of video; twice that in the first second after a "
                                      "cut. 0: what the detector is worth (yolo 15, yunet 10, cascade 5)."),
    ] = 0.0  # fmt: skip
    detect_width: Annotated[
        int,
        Meta(ge=160, le=640, description="Long side in pixels of the pictures that are searched. Smaller is faster and "
                                         "misses small faces."),
    ] = 640  # fmt: skip
    min_score: Annotated[
        float, Meta(ge=0.05, le=0.99, description="Least confidence at which a detection counts as a face.")
    ] = 0.6
    min_face: Annotated[
        float,
        Meta(ge=0.01, le=0.5, description="Smallest face that is followed, as a share of the picture's height."),
    ] = 0.03  # fmt: skip
    min_shot_s: Annotated[
        float, Meta(ge=0.04, le=5, description="Seconds; of two cuts closer than this the second is passed over.")
    ] = 0.2
    min_turn_s: Annotated[
        float,
        Meta(ge=0.2, le=10, description="Seconds that a speaker is held at least before the next one may take over."),
    ] = 1.0  # fmt: skip
    threads: Annotated[int, Meta(ge=1, le=64, description="Most CPU threads that face and lip detection use.")] = 2


def run(
    task: Task,
    folder: JobFolder,
    options: Options,
    report: Report,
    *,
    limits: MediaLimits = DEFAULT_LIMITS,
) -> FacesResult:
    """Find the clip's shots, faces and speakers.

    Raises `Misconfigured` when a detector, device or model that was asked for is missing, `Rejected` when the range
    holds no picture, `Transient` when an artifact of an earlier stage is missing.
    """
    import cv2

    from stages.vision.attribution import Attribution, together
    from stages.vision.scan import ScanRules, scan
    from stages.vision.sound import RATE_HZ

    clip = planned_clip(task, folder)
    span = Span(start_s=clip.start_s, end_s=clip.end_s)
    probe, source = folder.probe(), folder.source()
    cv2.setNumThreads(options.threads)
    models_dir = options.models_dir or folder.root.parent.parent / "models"
    detector, notes = choose_detector(options.detector, options.device, models_dir, min_score=options.min_score)
    sound = partial(read_audio, source, probe, span.start_s, span.end_s, rate_hz=RATE_HZ, limits=limits)
    attribution = Attribution(
        options.speaker, device=options.device, models_dir=models_dir, threads=options.threads,
        span=span, sound=sound if probe.audio is not None else None,
    )  # fmt: skip
    sample_fps = options.sample_fps or detector.sample_fps
    width = _analysis_width(probe, options.detect_width)
    seconds = max(span.end_s - span.start_s, 1e-3)
    frames = read_frames(
        source, probe, span.start_s, span.end_s, width=width, pix_fmt="bgr24", analysis=True, limits=limits
    )
    with prefetched(frames, PREFETCHED_FRAMES) as ahead:
        found = scan(
            ahead,
            detector,
            attribution.readers,
            span=span,
            scale=probe.video.width / upright_size(probe, width)[0],
            rules=ScanRules(sample_fps=sample_fps, min_shot_s=options.min_shot_s, min_face=options.min_face),
            progress=lambda t_s: report(min(0.95, 0.95 * (t_s - span.start_s) / seconds)),
        )
    if not found.frames:
        raise Rejected(
            f"the source has no picture between {span.start_s:.2f} and {span.end_s:.2f} s", "no-picture-in-range"
        )
    turns = attribution.turns(found, _heard(folder), options.min_turn_s)
    speaker = attribution.method if together(found) else None
    if speaker is not None:
        notes += attribution.notes
    if not found.tracks:
        notes.append("no face was found in this clip")
    folder.save(
        folder.clip_dir(clip.n) / "faces.json",
        Faces(
            start_s=span.start_s, end_s=span.end_s, width=probe.video.width, height=probe.video.height,
            sample_fps=sample_fps, shots=found.shots, tracks=found.tracks, turns=turns,
            detector=detector.name, device=detector.device, speaker=speaker, notes=notes,
        ),
    )  # fmt: skip
    report(1.0)
    return FacesResult(
        device=detector.device, notes=notes, detector=detector.name, tracks=len(found.tracks), shots=len(found.shots)
    )


def planned_clip(task: Task, folder: JobFolder) -> PlannedClip:
    """The plan of the task's clip. Raises `Transient` when the moments stage planned none of that number."""
    for clip in folder.moments().clips:
        if clip.n == task.clip:
            return clip
    raise Transient(f"clip {task.clip} is not in moments.json: run the moments stage again", "clip-unplanned")


def _analysis_width(probe: Probe, long_side: int) -> int:
    video = probe.video
    return max(2, round(video.width * min(1.0, long_side / max(video.width, video.height))))


def _heard(folder: JobFolder) -> list[Span] | None:
    """Where the transcript's voice-activity detector heard speech; None when there is none to ask."""
    try:
        return folder.transcript().speech or None
    except StageError:
        return None
