"""The files that stages hand to each other: versioned msgspec structs, stored as JSON in the job's folder.

All times are *source time*: seconds since the start of the source's presentation timeline (`Probe.start_s` already
subtracted). All pixel coordinates are in the upright source picture (rotation applied, square pixels), origin top left.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from stages.base import PlannedClip

Layout = Literal["follow", "still", "stack", "fit"]


class VideoInfo(Struct, frozen=True, kw_only=True):
    index: int
    codec: str
    profile: str | None
    width: int
    """Upright, square-pixel display width (rotation and sample aspect applied); `height` likewise."""
    height: int
    coded_width: int
    coded_height: int
    rotation: int
    """Degrees clockwise to turn the coded picture upright: 0, 90, 180 or 270."""
    fps: float
    """Mean frame rate over the probed part."""
    variable_rate: bool
    pix_fmt: str
    bit_depth: int
    hdr: bool


class AudioInfo(Struct, frozen=True, kw_only=True):
    index: int
    codec: str
    rate_hz: int
    channels: int


class Probe(Struct, frozen=True, kw_only=True):
    """`probe.json`: what the source really is, measured, never trusted from its header alone."""

    version: int = 1
    container: str
    size_bytes: int
    sha256: str
    start_s: float
    """Presentation time of the earliest stream; subtract it from pts to get source time."""
    duration_s: float
    video: VideoInfo
    audio: AudioInfo | None
    notes: list[str] = field(default_factory=list)


class Word(Struct, frozen=True, kw_only=True):
    text: str
    start_s: float
    end_s: float
    confidence: float
    """0 to 1."""


class Sentence(Struct, frozen=True, kw_only=True):
    """Words[first:last] (last exclusive); where a speaker pauses or ends a sentence."""

    first: int
    last: int


class Span(Struct, frozen=True, kw_only=True):
    start_s: float
    end_s: float


class Transcript(Struct, frozen=True, kw_only=True):
    """`transcript.json`."""

    version: int = 1
    model: str
    device: str
    language: str | None
    rough: bool
    words: list[Word]
    sentences: list[Sentence]
    speech: list[Span]
    """Where the voice-activity detector hears speech."""
    notes: list[str] = field(default_factory=list)


class Moments(Struct, frozen=True, kw_only=True):
    """`moments.json`: the chosen clips and the candidates they won against."""

    version: int = 1
    clips: list[PlannedClip]
    considered: list[PlannedClip]
    """The best candidates by score, chosen or not, at most 50."""
    notes: list[str] = field(default_factory=list)


class Box(Struct, frozen=True, kw_only=True):
    """A face at one instant, in upright source pixels."""

    t_s: float
    x: float
    y: float
    w: float
    h: float
    score: float


class Track(Struct, frozen=True, kw_only=True):
    """One person within one shot, boxes in time order at the sampled rate."""

    id: int
    shot: int
    boxes: list[Box]


class Turn(Struct, frozen=True, kw_only=True):
    """The person who most likely speaks during [start_s, end_s)."""

    start_s: float
    end_s: float
    track: int
    confidence: float


class Faces(Struct, frozen=True, kw_only=True):
    """`clips/<n>/faces.json`."""

    version: int = 1
    start_s: float
    end_s: float
    width: int
    height: int
    sample_fps: float
    shots: list[Span]
    """Cover [start_s, end_s) without gaps; borders are frame-exact cuts."""
    tracks: list[Track]
    turns: list[Turn]
    detector: str
    device: str
    speaker: Literal["lrasd", "signal"] | None = None
    """How it was told who speaks; None when there was never more than one face to choose from."""
    notes: list[str] = field(default_factory=list)


class CropKey(Struct, frozen=True, kw_only=True):
    """The crop window at one instant; between keys it moves linearly. Floats: sub-pixel on purpose."""

    t_s: float
    x: float
    y: float
    w: float
    h: float


class Pane(Struct, frozen=True, kw_only=True):
    """A part of the output picture and the window of the source it shows.

    `top` and `height` are shares of the output height; a pane spans the full output width.
    """

    top: float
    height: float
    keys: list[CropKey]


class ShotPlan(Struct, frozen=True, kw_only=True):
    """How one shot is framed: follow and still have one pane, stack two, fit one (whole frame over a blurred fill)."""

    start_s: float
    end_s: float
    layout: Layout
    panes: list[Pane]
    reason: str


class CropPlan(Struct, frozen=True, kw_only=True):
    """`clips/<n>/crop.json`: the one file that everything after it reads."""

    version: int = 1
    start_s: float
    end_s: float
    width: int
    """Output picture, pixels."""
    height: int
    shots: list[ShotPlan]
    """Cover [start_s, end_s) without gaps."""
    notes: list[str] = field(default_factory=list)


class Sidecar(Struct, frozen=True, kw_only=True):
    """`clip-<nn>.json` beside each clip: what it shows, how it was made, how it measures."""

    version: int = 1
    job: str
    clip: int
    title: str
    score: float
    reasons: list[str]
    start_s: float
    end_s: float
    duration_s: float
    frames: int
    fps: float
    width: int
    height: int
    size_bytes: int
    sha256: str
    video_codec: str
    audio_codec: str | None
    encoder: str
    loudness_lufs: float | None
    true_peak_dbtp: float | None
    words: list[Word]
    """Times relative to the clip."""
    layouts: list[str]
    detector: str
    transcriber: str
    rough: bool
    notes: list[str] = field(default_factory=list)
