"""The cut stage against the `ffmpeg` command line: same range, same crop and scale, same x264 settings.

    python -m bench.cut [--video FILE] [--seconds 20] [--preset fast] [--crf 19] [--rounds 3] [--threads 0] [--json]

Ours does more in its time (two-pass loudness, still, subtitles, check of the result); ffmpeg only cuts, crops, scales
and encodes. Rounds alternate, medians count. The two link different builds of x264, so the time each of them takes to
encode the same raw pictures, and nothing else, is shown beside: a ratio below or above 1 there is not ours to claim or
to mend.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from bus.events import JobSource
from stages import cut
from stages.artifacts import CropKey, CropPlan, Faces, Moments, Pane, Sentence, ShotPlan, Span, Transcript, Word
from stages.base import PlannedClip, Task
from stages.cut import Options
from stages.folder import JobFolder
from stages.media.encode import ClipWriter, VideoSettings, choose_encoder
from stages.media.framerate import output_rate
from stages.media.probe import probe_media
from stages.media.resample import FLAGS

TARGET = 1.10
_START_S = 1.0
_SIZE = (1080, 1920)
_FLOOR_FRAMES = 150


def main(argv: list[str] | None = None) -> int:
    """Run the comparison; returns the exit code: 0 also when the target is missed, it is a measurement."""
    parser = argparse.ArgumentParser(prog="python -m bench.cut", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--video", type=Path, help="16:9 source (default: a drawn 1080p talk)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the clip (default 20)")
    parser.add_argument("--preset", default=Options().preset)
    parser.add_argument("--crf", type=int, default=Options().crf)
    parser.add_argument("--rounds", type=int, default=3, help="A B A B … rounds (default 3)")
    parser.add_argument("--threads", type=int, default=0, help="encoder threads for both, 0 = the encoder's choice")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    if shutil.which("ffmpeg") is None:
        print("bench.cut needs the ffmpeg command line to compare with; install it (apt-get install ffmpeg)")
        return 0
    video = args.video or _drawn(args.seconds + 2.0)
    with tempfile.TemporaryDirectory(prefix="bench-cut-") as scratch:
        result = compare(video, Path(scratch), args.seconds, args.preset, args.crf, args.rounds, args.threads)
    print(json.dumps(result) if args.json else _table(result))
    return 0


def compare(
    video: Path, scratch: Path, seconds: float, preset: str, crf: int, rounds: int, threads: int
) -> dict[str, Any]:
    """Medians in seconds of wall time, and their ratios."""
    job = _Job(video, scratch, seconds)
    plain = Options(preset=preset, crf=crf, device="cpu", encoder_threads=threads, captions=False)
    captioned = Options(preset=preset, crf=crf, device="cpu", encoder_threads=threads)
    command = job.command(plain, scratch / "ffmpeg.mp4")
    runs: dict[str, list[tuple[float, float]]] = {"ffmpeg": [], "ours": [], "ours_captions": []}
    for _ in range(rounds):
        runs["ffmpeg"].append(_timed(lambda: _ffmpeg(command)))
        runs["ours"].append(_timed(lambda: job.cut(plain)))
        runs["ours_captions"].append(_timed(lambda: job.cut(captioned)))
    floors: dict[str, list[tuple[float, float]]] = {"floor_ffmpeg": [], "floor_ours": []}
    raw = scratch / "pictures.yuv"
    pictures = _raw_pictures(scratch / "ffmpeg.mp4", raw)
    for _ in range(rounds):
        floors["floor_ffmpeg"].append(_timed(lambda: _floor_ffmpeg(raw, plain, job.rate)))
        floors["floor_ours"].append(_timed(lambda: _floor_ours(pictures, plain, job.rate, scratch / "floor.mp4")))
    medians = {name: round(statistics.median(t for t, _ in times), 3) for name, times in (runs | floors).items()}
    cpu = {name: round(statistics.median(t for _, t in times), 3) for name, times in (runs | floors).items()}
    frames = round(seconds * float(job.rate))
    return {
        "bench": "cut",
        "clip_s": seconds,
        "frames": frames,
        "preset": preset,
        "crf": crf,
        "rounds": rounds,
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        **{f"{name}_s": value for name, value in medians.items()},
        **{f"{name}_cpu_s": value for name, value in cpu.items()},
        "ratio": round(medians["ours"] / medians["ffmpeg"], 3),
        "ratio_captions": round(medians["ours_captions"] / medians["ffmpeg"], 3),
        "cpu_ratio": round(cpu["ours"] / cpu["ffmpeg"], 3),
        "cpu_ratio_captions": round(cpu["ours_captions"] / cpu["ffmpeg"], 3),
        "x264_cpu_ratio": round(cpu["floor_ours"] / cpu["floor_ffmpeg"], 3),
        "x264_ratio": round(medians["floor_ours"] / medians["floor_ffmpeg"], 3),
        "floor_frames": len(pictures),
        "target": TARGET,
        "ffmpeg_bytes": (scratch / "ffmpeg.mp4").stat().st_size,
        "our_bytes": job.folder.output_file(1, ".mp4").stat().st_size,
        "all_runs_s": {name: [round(t, 3) for t, _ in times] for name, times in (runs | floors).items()},
    }


class _Job:
    """One clip in a job folder of its own, and the same clip as an ffmpeg command."""

    def __init__(self, video: Path, scratch: Path, seconds: float) -> None:
        self.folder = folder = JobFolder(scratch / "jobs", scratch / "output")
        folder.root.mkdir()
        folder.clip_dir(1).mkdir(parents=True)
        (folder.root / f"source{video.suffix}").symlink_to(video.absolute())
        probe = probe_media(folder.source())
        self.rate = output_rate(probe.video)
        self._seconds = seconds
        # A window that both can cut exactly: 9:16 in even pixels, in the middle.
        unit = probe.video.height // 32
        self._window = (18 * unit, 32 * unit)
        self._corner = ((probe.video.width - self._window[0]) // 4 * 2, (probe.video.height - self._window[1]) // 4 * 2)
        (x, y), (w, h), end_s = self._corner, self._window, _START_S + seconds
        keys = [CropKey(t_s=_START_S, x=x, y=y, w=w, h=h)]
        shot = ShotPlan(start_s=_START_S, end_s=end_s, layout="still", reason="bench",
                        panes=[Pane(top=0.0, height=1.0, keys=keys)])  # fmt: skip
        planned = PlannedClip(n=1, start_s=_START_S, end_s=end_s, score=1.0, title="bench", reasons=[])
        words = [
            Word(text=text, start_s=_START_S + 0.35 * i, end_s=_START_S + 0.35 * i + 0.3, confidence=1.0)
            for i, text in zip(range(int(seconds / 0.35)), _speech(), strict=False)
        ]
        for path, artifact in (
            (folder.root / "probe.json", probe),
            (folder.root / "moments.json", Moments(clips=[planned], considered=[])),
            (folder.root / "transcript.json", Transcript(model="bench", device="cpu", language="en", rough=False,
             words=words, sentences=[Sentence(first=0, last=len(words))], speech=[])),
            (folder.clip_dir(1) / "crop.json", CropPlan(start_s=_START_S, end_s=end_s, width=_SIZE[0],
             height=_SIZE[1], shots=[shot])),
            (folder.clip_dir(1) / "faces.json", Faces(start_s=_START_S, end_s=end_s, width=probe.video.width,
             height=probe.video.height, sample_fps=10, shots=[Span(start_s=_START_S, end_s=end_s)], tracks=[], turns=[],
             detector="none", device="cpu")),
        ):  # fmt: skip
            folder.save(path, artifact)
        origin = JobSource(kind="file", location=str(video), name=video.name)
        self._task = Task(stage="cut", job="0" * 26, clip=1, origin=origin)

    def cut(self, options: Options) -> None:
        cut.run(self._task, self.folder, options, lambda done, note=None: None)

    def command(self, options: Options, out: Path) -> list[str]:
        (w, h), (x, y) = self._window, self._corner
        return [
            "ffmpeg", "-v", "error", "-nostdin", "-y", "-ss", str(_START_S), "-t", str(self._seconds),
            "-i", str(self.folder.source()),
            "-vf", f"crop={w}:{h}:{x}:{y},scale={_SIZE[0]}:{_SIZE[1]}:flags={FLAGS}", "-r", str(self.rate),
            *_x264_arguments(options, self.rate), "-c:a", "aac", "-b:a", f"{options.audio_kbps}k", "-ar", "48000",
            "-ac", "2", "-movflags", "+faststart", str(out),
        ]  # fmt: skip


def _x264_arguments(options: Options, rate: Fraction) -> list[str]:
    chosen = choose_encoder("cpu").options(_settings(options))
    named = [argument for name, value in chosen.items() for argument in (f"-{name}:v", value)]
    threads = ["-threads", str(options.encoder_threads)] if options.encoder_threads else []
    return ["-c:v", "libx264", *named, "-pix_fmt", "yuv420p", "-g", str(round(2 * rate)), *threads]


def _settings(options: Options) -> VideoSettings:
    return VideoSettings(options.preset, options.crf, options.max_bitrate_kbps, options.encoder_threads)


def _ffmpeg(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _raw_pictures(clip: Path, raw: Path) -> list[av.VideoFrame]:
    pictures: list[av.VideoFrame] = []
    with av.open(str(clip)) as container, raw.open("wb") as out:
        for frame in container.decode(video=0):
            if len(pictures) == _FLOOR_FRAMES:
                break
            planar = np.ascontiguousarray(frame.to_ndarray(format="yuv420p"), np.uint8)
            out.write(planar.tobytes())
            pictures.append(av.VideoFrame.from_ndarray(planar, format="yuv420p"))
    return pictures


def _floor_ffmpeg(raw: Path, options: Options, rate: Fraction) -> None:
    _ffmpeg(
        ["ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "rawvideo", "-pix_fmt", "yuv420p",
         "-s", f"{_SIZE[0]}x{_SIZE[1]}", "-r", str(rate), "-i", str(raw), *_x264_arguments(options, rate),
         "-f", "mp4", "-movflags", "+faststart", str(raw.with_suffix(".mp4"))]
    )  # fmt: skip


def _floor_ours(pictures: list[av.VideoFrame], options: Options, rate: Fraction, out: Path) -> None:
    with closing(ClipWriter(out, rate, _SIZE, choose_encoder("cpu"), _settings(options), options.audio_kbps)) as writer:
        writer.sound([])
        for picture in pictures:
            writer.write(picture)
        writer.finish()


def _timed(work: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds, children included."""
    started, busy = time.perf_counter(), _cpu_s()
    work()
    return time.perf_counter() - started, _cpu_s() - busy


def _cpu_s() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _speech() -> list[str]:
    return ("the quick brown fox said that it would jump over every lazy dog in this town " * 20).split()


def _drawn(seconds: float) -> Path:
    from tests.media.maker import Spec, make

    spec = Spec(seconds=float(-(-seconds // 8) * 8), width=1920, height=1080, preset="veryfast", audio="stereo")
    return make(spec)[0]


def _table(result: dict[str, Any]) -> str:
    floor = f"x264 alone, {result['floor_frames']} pictures"
    rows = [
        ("ffmpeg command line", "ffmpeg", None, None),
        ("ours, captions off", "ours", result["ratio"], result["cpu_ratio"]),
        ("ours, captions on", "ours_captions", result["ratio_captions"], result["cpu_ratio_captions"]),
        (f"{floor}: ffmpeg's", "floor_ffmpeg", None, None),
        (f"{floor}: ours", "floor_ours", result["x264_ratio"], result["x264_cpu_ratio"]),
    ]
    head = (
        f"{result['clip_s']:g} s of 1080p to 1080x1920, x264 {result['preset']} crf {result['crf']}, "
        f"{result['cores']} cores, load {result['load_before']}, median of {result['rounds']}"
    )
    lines = [head, f"{'':<36}{'wall s':>9}{'ratio':>8}{'CPU s':>9}{'ratio':>8}"]
    for name, key, ratio, cpu_ratio in rows:
        ratios = [f"{r:8.3f}" if r is not None else " " * 8 for r in (ratio, cpu_ratio)]
        lines.append(f"  {name:<34}{result[key + '_s']:9.2f}{ratios[0]}{result[key + '_cpu_s']:9.2f}{ratios[1]}")
    lines.append(f"target: ours, captions off, at most {result['target']:.2f} of ffmpeg's wall time")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
