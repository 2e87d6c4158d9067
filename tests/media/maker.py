"""Synthetic talks with exact ground truth, made when needed and kept in a cache.

    python -m tests.media.maker OUT.mp4 --seconds 60 --size 1920x1080

writes the video and `OUT.truth.json`. Nothing is downloaded: faces come from a portrait inside scikit-image, speech
from espeak-ng where it is installed (else a speech-like signal, `Truth.real_speech` false).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import time
from bisect import bisect_right
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct, field

from tests.media import encode, scenes, speech
from tests.media.script import PARAGRAPHS

MAKER_VERSION = 1
"""Raise it when the same spec would give a different file."""
_CACHE_BYTES = 1_500 * 2**20
_PART_AGE_S = 900.0
"""Younger files are never removed: a test may be about to open them."""
_SHORT_S = 1.0
"""A very short video skips sentences until one fits; past this length there is none."""
_FOLDER = Path(__file__).parents[2] / ".cache" / "media"

Scene = Literal["seated", "walk", "pair", "page", "empty", "close"]


class Spec(Struct, frozen=True, kw_only=True):
    """What to make. Equal specs give the same file from the cache."""

    seconds: float = 16.0
    """Length of what is drawn; the file is `repeat` times as long."""
    repeat: int = 1
    """Packets are copied, so a long file costs no more than a short one; needs `seconds` to be a multiple of 8."""
    width: int = 640
    height: int = 360
    rate: tuple[int, int] = (30, 1)
    """Frames per second as a fraction."""
    variable_rate: bool = False
    """Intervals of one, one and a half and two frames, as phones do."""
    scenes: tuple[Scene, ...] = ("seated", "walk", "pair", "page")
    """Shots of equal length with hard cuts between them."""
    suffix: str = ".mp4"
    """`.mp4`, `.mov`, `.mkv`, `.webm`, `.avi` or `.ts`."""
    codec: str = "libx264"
    """An FFmpeg encoder: libx264, libx265, libvpx, libvpx-vp9, mpeg4, prores_ks …"""
    pix_fmt: str = "yuv420p"
    preset: str = "ultrafast"
    keyframe_s: float = 2.0
    b_frames: int = 0
    rotation: int = 0
    """Stored turned, with metadata to turn it back: 0, 90, 180, 270 degrees clockwise. Size is the upright size."""
    sample_aspect: tuple[int, int] = (1, 1)
    """Stored squeezed; `width` is the coded width then."""
    hdr: bool = False
    """Tagged BT.2020 PQ (the values are not graded)."""
    audio: Literal["none", "mono", "stereo", "5.1"] = "mono"
    audio_codec: str | None = None
    """Default: AAC, or Opus in WebM."""
    audio_rate_hz: int = 48_000
    audio_late_s: float = 0.0
    """Sound before this time is missing from the file altogether (no packets, not silence)."""
    start_s: float = 0.0
    """Timestamp of the first picture and sound."""
    strip: bool = False
    """A luma ramp along the bottom from which a crop's position can be read back."""
    seed: int = 0


class SpokenWord(Struct, frozen=True, kw_only=True):
    text: str
    start_s: float
    end_s: float


class SpokenSentence(Struct, frozen=True, kw_only=True):
    text: str
    person: int
    start_s: float
    end_s: float
    words: list[SpokenWord]


class Shot(Struct, frozen=True, kw_only=True):
    kind: str
    start_s: float
    end_s: float


class Truth(Struct, frozen=True, kw_only=True):
    """What is in the file, in source time. `faces` covers one period; everything else the whole file."""

    duration_s: float
    period_s: float
    fps: float
    width: int
    """Upright, square pixels."""
    height: int
    real_speech: bool
    shots: list[Shot]
    sentences: list[SpokenSentence]
    times_s: list[float]
    """Of the pictures of one period."""
    faces: list[list[tuple[int, float, float, float, float]]]
    """For each picture: (person, x, y, w, h) of every face, upright pixels."""
    notes: list[str] = field(default_factory=list)

    def faces_at(self, t_s: float) -> list[tuple[int, float, float, float, float]]:
        """The faces in the picture that is on screen at `t_s`."""
        at = bisect_right(self.times_s, t_s % self.period_s + 1e-6) - 1
        return self.faces[max(0, at)]

    def speaker_at(self, t_s: float) -> int | None:
        """Who speaks at `t_s`, or None in a pause."""
        return next((s.person for s in self.sentences if s.start_s <= t_s < s.end_s), None)

    @property
    def words(self) -> list[SpokenWord]:
        return [word for sentence in self.sentences for word in sentence.words]

    @property
    def cuts_s(self) -> list[float]:
        """Times of the first picture after each hard cut."""
        return [shot.start_s for shot in self.shots[1:]]


def make(spec: Spec) -> tuple[Path, Truth]:
    """The video for `spec` (do not modify it) and its truth; drawn on the first call, from the cache after."""
    folder = Path(os.environ.get("APPLIANCE_TEST_CACHE") or _FOLDER)
    key = hashlib.sha256(msgspec.json.encode([MAKER_VERSION, spec, speech.have_espeak(), _source_hash()])).hexdigest()[
        :20
    ]
    video, truth_file = folder / f"{key}{spec.suffix}", folder / f"{key}.truth.json"
    if not truth_file.exists() or not video.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{key}.{os.getpid()}{spec.suffix}"
        truth = write(spec, part)
        part.replace(video)
        hidden = truth_file.with_suffix(f".{os.getpid()}.part")
        hidden.write_bytes(msgspec.json.encode(truth))
        hidden.replace(truth_file)
        _prune(folder)
    for used in (video, truth_file):
        used.touch()
    return video, msgspec.json.decode(truth_file.read_bytes(), type=Truth)


def _prune(folder: Path) -> None:
    """Drop what was not used for longest until the cache is within its bound, and parts that a killed run left."""
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another test run prunes too
            found.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in found)
    for used_at, size, path in sorted(found):
        age_s = time.time() - used_at
        if age_s > _PART_AGE_S and (total > _CACHE_BYTES or path.name.startswith(".")):
            path.unlink(missing_ok=True)
            total -= size


def write(spec: Spec, path: Path) -> Truth:
    """Draw, speak and encode `spec` into `path`, past the cache."""
    if spec.repeat > 1 and spec.seconds % 8:
        raise ValueError("a repeated spec needs seconds to be a multiple of 8: whole AAC packets and pictures")
    fps = Fraction(*spec.rate)
    times = _picture_times(spec, fps)
    shots = _shots(spec, times)
    sentences, voice, real = _talk(spec, shots)
    faces: list[list[tuple[int, float, float, float, float]]] = []
    encode.encode(spec, path, times, _pictures(spec, times, shots, sentences, voice, faces), voice)
    if spec.repeat > 1:
        encode.repeat(path, spec.repeat, Fraction(spec.seconds).limit_denominator(1000))
    return Truth(
        duration_s=spec.seconds * spec.repeat,
        period_s=spec.seconds,
        fps=float(fps),
        width=round(spec.width * spec.sample_aspect[0] / spec.sample_aspect[1]),
        height=spec.height,
        real_speech=real,
        shots=[s for n in range(spec.repeat) for s in _shifted(shots, n * spec.seconds)],
        sentences=[s for n in range(spec.repeat) for s in _shifted(sentences, n * spec.seconds)],
        times_s=[float(t) for t in times],
        faces=faces,
    )


def _picture_times(spec: Spec, fps: Fraction) -> list[Fraction]:
    rng = np.random.default_rng(spec.seed + 7)
    times, at = [], Fraction(0)
    while at < Fraction(spec.seconds).limit_denominator(1000):
        times.append(at)
        at += (Fraction(int(rng.choice([2, 2, 3, 4])), 2) if spec.variable_rate else 1) / fps
    return times


def _shots(spec: Spec, times: list[Fraction]) -> list[Shot]:
    count = len(spec.scenes)
    wanted = [spec.seconds * n / count for n in range(1, count)]
    borders = [0.0, *(float(min(times, key=lambda t: abs(float(t) - w))) for w in wanted), spec.seconds]
    return [Shot(kind=kind, start_s=borders[n], end_s=borders[n + 1]) for n, kind in enumerate(spec.scenes)]


def _talk(spec: Spec, shots: list[Shot]) -> tuple[list[SpokenSentence], speech.Samples, bool]:
    """Sentences one after the other with pauses; in a pair's shot the two take turns."""
    rng = np.random.default_rng(spec.seed + 11)
    voice = np.zeros(round(spec.seconds * speech.RATE_HZ), np.float32)
    sentences: list[SpokenSentence] = []
    if spec.audio == "none":
        return sentences, voice, False
    at_s, person, real = 0.3, 0, speech.have_espeak()
    for text, last in _lines(spec.seed):
        shot = next((s for s in shots if s.start_s <= at_s < s.end_s), shots[-1])
        person = 1 - person if shot.kind == "pair" else 0
        spoken = speech.say(text, person)
        length_s = len(spoken.samples) / speech.RATE_HZ
        if person == 1 and at_s + length_s > shot.end_s:
            person, spoken = 0, speech.say(text, 0)
            length_s = len(spoken.samples) / speech.RATE_HZ
        if at_s + length_s > spec.seconds - 0.2:
            if sentences or length_s < _SHORT_S:
                break
            continue
        first = round(at_s * speech.RATE_HZ)
        at_s = first / speech.RATE_HZ
        voice[first : first + len(spoken.samples)] = spoken.samples
        words = [SpokenWord(text=w, start_s=at_s + a, end_s=at_s + b) for w, a, b in spoken.words]
        sentences.append(SpokenSentence(text=text, person=person, start_s=at_s, end_s=at_s + length_s, words=words))
        at_s += length_s + (rng.uniform(0.9, 1.4) if last else rng.uniform(0.3, 0.6))
    return sentences, voice, real


def _lines(seed: int) -> Iterator[tuple[str, bool]]:
    """Sentences without end, paragraph by paragraph, and whether one ends its paragraph."""
    n = seed
    while True:
        paragraph = PARAGRAPHS[n % len(PARAGRAPHS)]
        for text in paragraph:
            yield text, text is paragraph[-1]
        n += 1


def _pictures(
    spec: Spec,
    times: list[Fraction],
    shots: list[Shot],
    sentences: list[SpokenSentence],
    voice: speech.Samples,
    faces: list[list[tuple[int, float, float, float, float]]],
) -> Iterator[scenes.Picture]:
    """Upright pictures in order; what stands on each is appended to `faces`."""
    aspect = spec.sample_aspect[0] / spec.sample_aspect[1]
    width = round(spec.width * aspect)
    painter, current = None, -1
    for shown_at in times:
        t_s = float(shown_at)
        number = max(i for i, s in enumerate(shots) if s.start_s <= t_s + 1e-6)
        shot = shots[number]
        if number != current:
            painter = scenes.Painter(shot.kind, width, spec.height, spec.seed * 100 + number, spec.strip)
            current = number
        assert painter is not None
        inside_s = t_s - shot.start_s
        people = scenes.placements(
            shot.kind, inside_s, inside_s / (shot.end_s - shot.start_s), width, spec.height,
            _mouths(t_s, sentences, voice),
        )  # fmt: skip
        picture, boxes = painter.draw(people)
        faces.append([(person, *box) for person, box in boxes])
        yield picture


def _mouths(t_s: float, sentences: list[SpokenSentence], voice: speech.Samples) -> tuple[float, float]:
    """Opening of both mouths: the loudness of 50 ms around now, for who speaks."""
    speaker = next((s.person for s in sentences if s.start_s <= t_s < s.end_s), None)
    if speaker is None:
        return 0.0, 0.0
    middle, half = round(t_s * speech.RATE_HZ), speech.RATE_HZ // 40
    part = voice[max(0, middle - half) : middle + half]
    opening = min(1.0, float(np.sqrt(np.mean(part**2))) * 9) if len(part) else 0.0
    return (opening, 0.0) if speaker == 0 else (0.0, opening)


def _shifted(items: list[Any], by_s: float) -> list[Any]:
    if by_s == 0:
        return list(items)
    moved = []
    for item in items:
        changes: dict[str, Any] = {"start_s": item.start_s + by_s, "end_s": item.end_s + by_s}
        if isinstance(item, SpokenSentence):
            changes["words"] = _shifted(item.words, by_s)
        moved.append(msgspec.structs.replace(item, **changes))
    return moved


def _source_hash() -> str:
    """The maker's own text: a change to how things are drawn must not meet an old cache."""
    here = Path(__file__).parent
    names = ("maker.py", "scenes.py", "speech.py", "script.py", "encode.py")
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in names)).hexdigest()


def main() -> None:
    """Command line: make one video, with its truth beside it."""
    parser = argparse.ArgumentParser(prog="python -m tests.media.maker", description=__doc__)
    parser.add_argument("out", type=Path, help="file to write, e.g. talk.mp4; its suffix picks the container")
    parser.add_argument("--seconds", type=float, default=60.0, help="length (default 60)")
    parser.add_argument("--size", default="1280x720", help="upright size (default 1280x720)")
    parser.add_argument("--fps", default="30", help="pictures a second, e.g. 25 or 30000/1001 (default 30)")
    parser.add_argument("--scenes", default="", help="shots, comma separated (default seated,walk,pair,page)")
    parser.add_argument("--audio", choices=["none", "mono", "stereo", "5.1"], default="stereo")
    parser.add_argument("--strip", action="store_true", help="draw the luma ramp along the bottom")
    parser.add_argument("--fresh", action="store_true", help="never repeat: slow above two minutes, but all new text")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    width, height = (int(n) for n in args.size.lower().split("x"))
    rate = Fraction(args.fps)
    seconds, times = args.seconds, 1
    if seconds > 120 and not args.fresh:
        seconds = next((p for p in range(120, 23, -8) if args.seconds % p == 0), 48)
        times = max(1, round(args.seconds / seconds))
    kinds = tuple(args.scenes.split(",")) if args.scenes else _default_scenes(seconds)
    spec = msgspec.convert(
        {
            "seconds": float(seconds), "repeat": times, "width": width, "height": height,
            "rate": (rate.numerator, rate.denominator), "scenes": kinds, "suffix": args.out.suffix.lower(),
            "codec": "libvpx" if args.out.suffix.lower() == ".webm" else "libx264",
            "audio": args.audio, "strip": args.strip, "seed": args.seed,
        },
        Spec,
    )  # fmt: skip
    video, truth = make(spec)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(video, args.out)
    args.out.with_suffix(".truth.json").write_bytes(msgspec.json.encode(truth))


def _default_scenes(seconds: float) -> tuple[str, ...]:
    """About one shot every twelve seconds."""
    kinds = ("seated", "pair", "walk", "close", "pair", "page")
    return tuple(kinds[n % len(kinds)] for n in range(max(1, round(seconds / 12))))


if __name__ == "__main__":
    main()
