"""Faces and crop on drawn talks whose truth is known to the pixel and the frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pytest

from bus.events import JobSource
from stages import crop, faces
from stages.artifacts import CropPlan, Faces, Moments
from stages.base import CropResult, FacesResult, PlannedClip, Task
from stages.errors import Misconfigured, Rejected, Transient
from stages.folder import JobFolder
from stages.media.probe import probe_media
from stages.vision.detectors import YUNET_FILE
from stages.vision.lrasd import WEIGHTS_FILE
from tests.integration.vision.measure import (
    containment,
    cut_latency_frames,
    reversals_per_s,
    switch_latency_s,
    travel_px_s,
    undeclared_jumps,
)
from tests.media.maker import Spec, Truth, make

SHARED_MODELS = Path(__file__).parents[3].parent / "shared" / "models"
needs_lrasd = pytest.mark.skipif(
    not (SHARED_MODELS / WEIGHTS_FILE).is_file(), reason="LR-ASD's weights are not at hand"
)
needs_yunet = pytest.mark.skipif(not (SHARED_MODELS / YUNET_FILE).is_file(), reason="the YuNet model is not at hand")
YUNET = faces.Options(detector="yunet", speaker="signal", models_dir=SHARED_MODELS)
CASCADE = faces.Options(detector="cascade")
TALK = Spec(seconds=24, scenes=("seated", "walk", "pair", "page"))


def task(clip: int = 1) -> Task:
    return Task(stage="faces", job="j", clip=clip, origin=JobSource(kind="file", location="/v.mp4", name="v.mp4"))


class Progress:
    """Checks what a report promises: never back, never past the end."""

    def __init__(self) -> None:
        self.done = 0.0

    def __call__(self, done: float, note: str | None = None) -> None:
        assert self.done <= done <= 1.0
        self.done = done


@dataclass
class Made:
    """What both stages said and wrote about one clip."""

    folder: JobFolder
    truth: Truth
    faces: Faces
    plan: CropPlan
    found: FacesResult
    cropped: CropResult


def job(root: Path, spec: Spec, start_s: float = 0.0, end_s: float | None = None) -> tuple[JobFolder, Truth]:
    """A job's folder as the stages before leave it."""
    video, truth = make(spec)
    folder = JobFolder.of(root, "j")
    folder.root.mkdir(parents=True)
    (folder.root / f"source{video.suffix}").symlink_to(video)
    folder.save(folder.root / "probe.json", probe_media(video))
    clip = PlannedClip(
        n=1, start_s=start_s, end_s=truth.duration_s if end_s is None else end_s, score=1.0, title="t", reasons=[]
    )
    folder.save(folder.root / "moments.json", Moments(clips=[clip], considered=[clip]))
    return folder, truth


def shoot(root: Path, spec: Spec, options: faces.Options, start_s: float = 0.0, end_s: float | None = None) -> Made:
    """Run both stages on a clip."""
    folder, truth = job(root, spec, start_s, end_s)
    progress = Progress()
    found = faces.run(task(), folder, options, progress)
    assert progress.done == 1.0
    cropped = crop.run(task(), folder, crop.Options(), Progress())
    return Made(folder, truth, folder.faces(1), folder.crop(1), found, cropped)


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return shoot(tmp_path_factory.mktemp("talk"), TALK, YUNET)


@needs_yunet
def test_a_talk_is_framed_as_a_person_would(talk: Made) -> None:
    """The targets: calm, on the speaker, and right from the first frame after each cut."""
    made, truth, plan = talk, talk.truth, talk.plan
    assert [s.start_s for s in made.faces.shots[1:]] == pytest.approx(truth.cuts_s, abs=1e-3)
    assert made.found.detector == "yunet"
    assert [s.layout for s in plan.shots if s.start_s in (0.0, *truth.cuts_s)] == ["still", "follow", "still", "fit"]
    assert containment(plan, truth, "seated") >= 0.999
    assert containment(plan, truth, "walk") >= 0.995
    assert containment(plan, truth, "pair") >= 0.98
    assert containment(plan, truth, "page") == 1.0
    assert cut_latency_frames(plan, truth) == [0, 0, 0]
    assert travel_px_s(plan, truth, "seated") <= 0.5 * truth.width / 1920
    assert reversals_per_s(plan, truth, "walk") <= 0.05
    assert undeclared_jumps(plan, truth) == 0
    assert made.cropped.notes == []


@needs_yunet
@pytest.mark.parametrize("speaker", ["signal", pytest.param("lrasd", marks=needs_lrasd)])
def test_two_people_are_told_apart_by_sight_and_sound(tmp_path: Path, speaker: Literal["signal", "lrasd"]) -> None:
    spec = Spec(seconds=24, scenes=("pair",), rate=(25, 1), seed=3)
    made = shoot(tmp_path, spec, msgspec.structs.replace(YUNET, speaker=speaker))
    assert made.faces.speaker == speaker
    changes = switch_latency_s(made.plan, made.truth)
    assert len(made.faces.tracks) == 2
    assert len(changes) >= 4
    assert float(np.median(changes)) <= 0.15
    assert max(changes) <= 0.4
    assert len(made.faces.turns) == len(changes) + 1  # no change that nobody made
    assert containment(made.plan, made.truth, "pair") >= 0.98
    assert all(len(p.keys) == 1 for s in made.plan.shots for p in s.panes)  # cuts between still cameras, no pan


@needs_yunet
def test_tracks_follow_the_true_faces(talk: Made) -> None:
    for track in talk.faces.tracks:
        owners = []
        for box in track.boxes:
            near = {
                person: np.hypot(box.x + box.w / 2 - x - w / 2, box.y + box.h / 2 - y - h / 2) / h
                for person, x, y, w, h in talk.truth.faces_at(box.t_s)
            }
            owners.append(min(near, key=lambda p: near[p]))
            assert near[owners[-1]] < 0.15
        assert len(set(owners)) == 1
    assert len(talk.faces.tracks) == 4


@needs_yunet
def test_without_sound_two_people_are_both_shown_or_rightly_chosen(tmp_path: Path) -> None:
    made = shoot(tmp_path, Spec(seconds=8, scenes=("pair",), audio="none"), YUNET)
    assert any("mouths alone" in note for note in made.found.notes)
    assert [s.layout for s in made.plan.shots] == ["stack"]  # the mouths do not move at all


@needs_yunet
@pytest.mark.parametrize(
    "spec",
    [
        Spec(seconds=8, scenes=("walk", "close"), rate=(60, 1), width=640, height=480, seed=4),
        Spec(seconds=8, scenes=("seated", "walk"), rate=(30, 1), variable_rate=True, seed=6),
        Spec(seconds=8, scenes=("walk", "seated"), rate=(24000, 1001), width=640, height=360, rotation=90, seed=7),
        Spec(seconds=8, scenes=("seated", "walk"), width=360, height=640, seed=8),
    ],
    ids=["4:3 at 60", "variable rate", "turned by metadata", "vertical"],
)
def test_other_shapes_and_rates_are_framed_as_well(tmp_path: Path, spec: Spec) -> None:
    made = shoot(tmp_path, spec, YUNET)
    assert [s.start_s for s in made.faces.shots[1:]] == pytest.approx(made.truth.cuts_s, abs=1e-3)
    assert cut_latency_frames(made.plan, made.truth) == [0]
    for kind in spec.scenes:
        assert containment(made.plan, made.truth, kind) >= 0.995
    assert undeclared_jumps(made.plan, made.truth) == 0


def test_the_bundled_cascade_alone_still_frames_the_talk(tmp_path: Path) -> None:
    made = shoot(tmp_path, Spec(seconds=8, scenes=TALK.scenes), CASCADE)
    truth, plan = made.truth, made.plan
    assert made.found.detector == "cascade"
    assert containment(plan, truth, "seated") >= 0.99
    assert containment(plan, truth, "walk") >= 0.95
    assert containment(plan, truth, "pair") >= 0.7
    assert containment(plan, truth, "page") >= 0.9
    assert travel_px_s(plan, truth, "seated") <= 1.0


@needs_yunet
def test_only_the_clips_own_range_counts(tmp_path: Path) -> None:
    made = shoot(tmp_path, TALK, YUNET, start_s=4.5, end_s=8.25)
    assert (made.faces.start_s, made.faces.end_s) == (4.5, 8.25)
    assert [(s.start_s, s.end_s) for s in made.faces.shots] == [(4.5, 6.0), (6.0, 8.25)]
    assert all(4.5 <= b.t_s < 8.25 for t in made.faces.tracks for b in t.boxes)
    assert cut_latency_frames(made.plan, made.truth) == [0]


@needs_yunet
def test_a_second_run_writes_the_same_bytes(tmp_path: Path) -> None:
    folder, _ = job(tmp_path, TALK, 10.0, 15.0)
    written = []
    for _ in range(2):
        faces.run(task(), folder, YUNET, Progress())
        crop.run(task(), folder, crop.Options(), Progress())
        written.append([(folder.clip_dir(1) / name).read_bytes() for name in ("faces.json", "crop.json")])
    assert written[0] == written[1]


def test_trouble_is_told_in_words(tmp_path: Path) -> None:
    folder, truth = job(tmp_path, TALK, 900.0, 905.0)
    with pytest.raises(Rejected, match=r"no picture between 900\.00 and 905\.00 s"):
        faces.run(task(), folder, CASCADE, Progress())
    with pytest.raises(Transient, match="clip 2 is not in moments"):
        faces.run(task(2), folder, CASCADE, Progress())
    with pytest.raises(Transient, match=r"faces\.json is missing"):
        crop.run(task(), folder, crop.Options(), Progress())
    with pytest.raises(Misconfigured, match="models pull yunet"):
        faces.run(task(), folder, faces.Options(detector="yunet"), Progress())
    assert truth.duration_s < 900
    assert not list(folder.root.rglob("*.part"))
