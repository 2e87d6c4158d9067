"""The contract of a stage.

Each stage module offers an `Options` struct, and

    def run(task: Task, folder: JobFolder, options: Options, report: Report) -> <Stage>Result

Synchronous and single-purpose: reads the job's folder, writes its artifacts there (temporary name, fsync, rename),
returns its figures. It knows nothing of the bus, the store or other jobs, keeps no state between calls, and may be
killed at any moment: running it again on the same folder gives the same artifacts. Heavy libraries are imported inside
`run`, so importing a stage module is cheap.
"""

from __future__ import annotations

from typing import Literal, Protocol

from msgspec import Struct, field

from bus.events import JobOptions, JobSource, StageName

Device = Literal["auto", "cpu", "cuda"]
"""`auto` takes CUDA where a card and the stage's GPU libraries are present, and says what it took."""


class Report(Protocol):
    """How a running stage tells its progress; cheap, may be called for every frame."""

    def __call__(self, done: float, note: str | None = None) -> None:
        """`done` is the finished share of the work, 0 to 1, never decreasing."""


class Task(Struct, frozen=True, kw_only=True):
    """One piece of work: a stage on a job (`clip` None) or on one clip of it."""

    stage: StageName
    job: str
    clip: int | None = None
    origin: JobSource
    options: JobOptions = JobOptions()


class StageResult(Struct, frozen=True, kw_only=True):
    """What every stage returns. Field names equal those of the stage's done event."""

    device: str = "cpu"
    notes: list[str] = field(default_factory=list)
    """Every fallback taken and why, one sentence for people each."""


class DownloadResult(StageResult, frozen=True, kw_only=True):
    path: str
    """Name of the source inside the job's folder, `source.<ext>`."""
    size_bytes: int
    sha256: str
    duration_s: float
    width: int
    height: int
    fps: float
    video_codec: str
    audio_codec: str | None


class TranscribeResult(StageResult, frozen=True, kw_only=True):
    model: str
    language: str | None
    words: int
    rough: bool


class PlannedClip(Struct, frozen=True, kw_only=True):
    """[start_s, end_s) of the source, `n` from 1 in order of score."""

    n: int
    start_s: float
    end_s: float
    score: float
    title: str
    reasons: list[str]
    text: str = ""


class MomentsResult(StageResult, frozen=True, kw_only=True):
    planned: list[PlannedClip]
    candidates: int


class FacesResult(StageResult, frozen=True, kw_only=True):
    detector: str
    tracks: int
    shots: int


class CropResult(StageResult, frozen=True, kw_only=True):
    layouts: list[str]


class CutResult(StageResult, frozen=True, kw_only=True):
    path: str
    """File name inside the output folder, `clip-01.mp4`."""
    size_bytes: int
    sha256: str
    duration_s: float
    width: int
    height: int
    encoder: str
    loudness_lufs: float | None


RESULTS: dict[StageName, type[StageResult]] = {
    "download": DownloadResult,
    "transcribe": TranscribeResult,
    "moments": MomentsResult,
    "faces": FacesResult,
    "crop": CropResult,
    "cut": CutResult,
}
