"""A job folder with everything the cut stage reads, made from a drawn talk and its truth; a reader of the result."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import msgspec
import numpy as np
from numpy.typing import NDArray

from bus.events import JobOptions, JobSource
from bus.ids import new_id
from stages import cut
from stages.artifacts import (
    Box,
    CropKey,
    CropPlan,
    Faces,
    Layout,
    Moments,
    Pane,
    Sentence,
    ShotPlan,
    Sidecar,
    Span,
    Track,
    Transcript,
    Word,
)
from stages.base import CutResult, PlannedClip, Task
from stages.folder import JobFolder
from stages.media.probe import probe_media
from stages.media.resample import planes_of
from tests.media.maker import Truth

QUICK = cut.Options(preset="ultrafast", crf=16, device="cpu", max_bitrate_kbps=60_000)


def pane(*keys: tuple[float, float, float, float, float], top: float = 0.0, height: float = 1.0) -> Pane:
    """Keys are (t_s, x, y, w, h)."""
    return Pane(top=top, height=height, keys=[CropKey(t_s=t, x=x, y=y, w=w, h=h) for t, x, y, w, h in keys])


def shot(start_s: float, end_s: float, layout: Layout, *panes: Pane) -> ShotPlan:
    return ShotPlan(start_s=start_s, end_s=end_s, layout=layout, panes=list(panes), reason="test")


@dataclass
class Case:
    """One clip to cut."""

    folder: JobFolder
    task: Task
    start_s: float
    end_s: float

    def run(self, options: cut.Options = QUICK) -> CutResult:
        self.progress: list[float] = []
        return cut.run(self.task, self.folder, options, lambda done, note=None: self.progress.append(done))

    @property
    def video(self) -> Path:
        return self.folder.output_file(1, ".mp4")

    @property
    def sidecar(self) -> Sidecar:
        return msgspec.json.decode(self.folder.output_file(1, ".json").read_bytes(), type=Sidecar)


def case(
    root: Path,
    source: Path,
    start_s: float,
    end_s: float,
    *,
    shots: list[ShotPlan] | None = None,
    words: list[Word] | None = None,
    truth: Truth | None = None,
    captions: bool = True,
    size: tuple[int, int] = (1080, 1920),
) -> Case:
    """Lay out the job: by default one still shot in the middle of the picture, words and faces from `truth`."""
    folder = JobFolder(root / "jobs" / "j", root / "output" / "j")
    folder.root.mkdir(parents=True)
    (folder.root / f"source{source.suffix}").symlink_to(source)
    probe = probe_media(folder.source())
    folder.save(folder.root / "probe.json", probe)
    video = probe.video
    if shots is None:
        w = min(float(video.width), video.height * size[0] / size[1])
        shots = [shot(start_s, end_s, "still", pane((start_s, (video.width - w) / 2, 0.0, w, float(video.height))))]
    plan = CropPlan(start_s=start_s, end_s=end_s, width=size[0], height=size[1], shots=shots)
    folder.clip_dir(1).mkdir(parents=True)
    folder.save(folder.clip_dir(1) / "crop.json", plan)
    sentences: list[Sentence] = []
    if words is None:
        words = []
        for spoken in truth.sentences if truth else []:
            first = len(words)
            words += [Word(text=w.text, start_s=w.start_s, end_s=w.end_s, confidence=1.0) for w in spoken.words]
            sentences.append(Sentence(first=first, last=len(words)))
    folder.save(
        folder.root / "transcript.json",
        Transcript(
            model="truth", device="cpu", language="en", rough=False, words=words, sentences=sentences, speech=[]
        ),
    )
    planned = PlannedClip(
        n=1, start_s=start_s, end_s=end_s, score=0.9, title="A talk", reasons=["it is the only one"], text=""
    )
    folder.save(folder.root / "moments.json", Moments(clips=[planned], considered=[planned]))
    folder.save(
        folder.clip_dir(1) / "faces.json",
        Faces(
            start_s=start_s, end_s=end_s, width=video.width, height=video.height, sample_fps=10.0,
            shots=[Span(start_s=s.start_s, end_s=s.end_s) for s in shots], tracks=_tracks(truth, start_s, end_s),
            turns=[], detector="truth", device="cpu",
        ),
    )  # fmt: skip
    origin = JobSource(kind="file", location=str(source), name=source.name)
    task = Task(stage="cut", job=new_id(), clip=1, origin=origin, options=JobOptions(captions=captions))
    return Case(folder, task, start_s, end_s)


def _tracks(truth: Truth | None, start_s: float, end_s: float) -> list[Track]:
    if truth is None:
        return []
    boxes: dict[int, list[Box]] = {}
    for t in np.arange(start_s, end_s, 0.1):
        for person, x, y, w, h in truth.faces_at(float(t)):
            boxes.setdefault(person, []).append(Box(t_s=float(t), x=x, y=y, w=w, h=h, score=0.9))
    return [Track(id=person, shot=0, boxes=found) for person, found in boxes.items()]


@dataclass
class Decoded:
    """A clip as a player shows it."""

    luma: NDArray[np.uint8]
    """(frames, height, width)."""
    times_s: list[float]
    sound: NDArray[np.float32]
    """(samples, channels), from time 0 on."""
    rate: Fraction


def decode(path: Path, *, pictures: slice = slice(None)) -> Decoded:
    """Everything of a short clip; `pictures` keeps only some frames."""
    luma, times, sound = [], [], []
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        for frame in container.decode(container.streams.video[0]):
            luma.append(planes_of(frame)[0].copy())
            times.append(float(frame.time))
    with av.open(str(path)) as container:
        for part in container.decode(container.streams.audio[0]):
            assert part.time is not None
            early = max(0, -round(part.time * part.sample_rate))
            sound.append(np.asarray(part.to_ndarray(), np.float32).T[early:])
    assert rate is not None
    return Decoded(np.stack(luma[pictures]), times[pictures], np.concatenate(sound), rate)


def rgb_frames(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [np.asarray(f.to_ndarray(format="rgb24"), np.uint8) for f in container.decode(video=0)]
