"""The stage on real files: with and without speech, very short, cut borders, time and memory."""

from __future__ import annotations

import time
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from bus.events import JobOptions, JobSource
from stages import moments
from stages.artifacts import Moments, Transcript
from stages.base import Task
from stages.errors import Misconfigured, Rejected
from stages.folder import JobFolder
from stages.media.probe import probe_media
from stages.story import picture
from stages.story.sound import HOP_S
from tests.unit.moments.talks import Talk, planted

RATE_HZ = 16_000
Samples = NDArray[np.float32]
NOTHING = Transcript(model="none", device="cpu", language=None, rough=False, words=[], sentences=[], speech=[])


def job(root: Path, seconds: float, *, sound: Samples | None, shots: tuple[float, ...] = (), fps: int = 5) -> JobFolder:
    """A source of 64x48 whose grey changes at each time of `shots`, keyframes every 2 s and nowhere else."""
    folder = JobFolder(root / "jobs" / "job", root / "output" / "job")
    folder.root.mkdir(parents=True)
    source = folder.root / "source.mp4"
    options = {"preset": "ultrafast", "g": str(2 * fps), "sc_threshold": "0", "crf": "30"}
    with av.open(str(source), "w") as out:
        video: Any = out.add_stream("libx264", rate=fps, options=options)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio: Any = None if sound is None else out.add_stream("aac", rate=RATE_HZ, layout="mono")
        for i in range(round(seconds * fps)):
            shade = 40 + 120 * (sum(t <= i / fps + 1e-9 for t in shots) % 2)
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), shade, np.uint8), "rgb24")
            frame.pts, frame.time_base = i, Fraction(1, fps)
            out.mux(video.encode(frame))
            if sound is not None and i % fps == 0 and len(part := sound[i // fps * RATE_HZ :][:RATE_HZ]):
                block = av.AudioFrame.from_ndarray(np.clip(part, -1, 1)[None], "fltp", "mono")
                block.sample_rate, block.pts, block.time_base = RATE_HZ, i // fps * RATE_HZ, Fraction(1, RATE_HZ)
                out.mux(audio.encode(block))
        out.mux(video.encode(None))
        if audio is not None:
            out.mux(audio.encode(None))
    folder.save(folder.root / "probe.json", probe_media(source))
    return folder


def voice(talk: Talk, duration_s: float) -> Samples:
    """Noise with the talk's level curve."""
    level = talk.sound(duration_s).level_db
    envelope = np.repeat(10 ** (level / 20), round(HOP_S * RATE_HZ)).astype(np.float32)
    return np.asarray(np.random.default_rng(1).normal(size=len(envelope)) * envelope, np.float32)


def run(folder: JobFolder, transcript: Transcript, options: moments.Options | None = None, **asked: Any) -> Moments:
    folder.save(folder.root / "transcript.json", transcript)
    origin = JobSource(kind="file", location="/talk.mp4", name="talk.mp4")
    reports: list[float] = []
    result = moments.run(
        Task(stage="moments", job="job", origin=origin, options=JobOptions(**asked)),
        folder,
        options or moments.Options(),
        lambda done, note=None: reports.append(done),
    )
    found = folder.moments()
    assert found.clips == result.planned
    assert found.notes == result.notes
    assert reports == sorted(reports)
    assert reports[-1] == 1.0
    return found


@pytest.fixture(scope="module")
def talk_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[JobFolder, Talk]:
    talk, duration_s = planted(21, 10)
    return job(tmp_path_factory.mktemp("talk"), duration_s, sound=voice(talk, duration_s)), talk


def test_a_ten_minute_talk_gives_the_clips_asked_for(talk_folder: tuple[JobFolder, Talk]) -> None:
    folder, talk = talk_folder
    found = run(folder, talk.transcript())
    assert [c.n for c in found.clips] == [1, 2, 3]
    assert all(15 <= c.end_s - c.start_s <= 60 for c in found.clips)
    for plant in talk.plants:
        assert any(min(plant.end_s, c.end_s) - max(plant.start_s, c.start_s) > 10 for c in found.clips)
    for clip in found.clips:
        for border in (clip.start_s, clip.end_s):
            assert not [w for w in talk.words if w.start_s < border < w.end_s]
    assert run(folder, talk.transcript()) == found


def test_the_job_overrules_the_configuration(talk_folder: tuple[JobFolder, Talk]) -> None:
    folder, talk = talk_folder
    found = run(folder, talk.transcript(), clips=5, min_length_s=8.0, max_length_s=12.0)
    assert len(found.clips) == 5
    assert all(8 <= c.end_s - c.start_s <= 12 for c in found.clips)
    # One given length moves the other where it must.
    assert all(c.end_s - c.start_s <= 10 for c in run(folder, talk.transcript(), max_length_s=10.0).clips)
    with pytest.raises(Rejected, match="shortest, then longest"):
        run(folder, talk.transcript(), min_length_s=20.0, max_length_s=10.0)


def test_it_is_quick_and_its_memory_is_flat(talk_folder: tuple[JobFolder, Talk]) -> None:
    folder, talk = talk_folder
    started = time.process_time()
    run(folder, talk.transcript())
    assert time.process_time() - started < 10  # for ten minutes; typically under two seconds
    tracemalloc.start()
    try:
        run(folder, talk.transcript())
        assert tracemalloc.get_traced_memory()[1] < 40e6  # ten minutes of samples alone are 38 MB
    finally:
        tracemalloc.stop()


def test_borders_meet_cuts_in_pauses(tmp_path: Path) -> None:
    talk, duration_s = planted(33, 3, (6.0,))
    (plant,) = talk.plants
    before = max(w.end_s for w in talk.words if w.end_s < plant.start_s)
    after = min(w.start_s for w in talk.words if w.start_s > plant.end_s)
    fps = 25
    shots = tuple(np.ceil((a + (b - a) / 2) * fps) / fps for a, b in ((before, plant.start_s), (plant.end_s, after)))
    folder = job(tmp_path, duration_s, sound=voice(talk, duration_s), shots=shots, fps=fps)
    source, probe = folder.source(), folder.probe()
    assert picture.cuts(source, probe, shots[0] - 0.5, shots[0] + 0.5) == [pytest.approx(shots[0], abs=1e-3)]
    assert picture.cuts(source, probe, shots[0] + 0.5, shots[0] + 1.5) == []
    lengths: dict[str, Any] = {"min_length_s": 15.0, "max_length_s": 30.0}
    (clip,) = run(folder, talk.transcript(), clips=1, **lengths).clips
    assert clip.start_s == pytest.approx(shots[0], abs=2e-3)
    assert clip.end_s == pytest.approx(shots[1], abs=2e-3) or clip.end_s < plant.end_s
    (loose,) = run(folder, talk.transcript(), moments.Options(snap_to_cuts=False), clips=1, **lengths).clips
    assert abs(loose.start_s - shots[0]) > 0.02


def test_two_seconds_are_one_clip(tmp_path: Path) -> None:
    found = run(job(tmp_path, 2, sound=None), NOTHING)
    (clip,) = found.clips
    assert (clip.start_s, clip.end_s, clip.n) == (0.0, 2.0, 1)
    assert "no longer than the shortest clip" in found.notes[0]


def test_without_sound_the_picture_decides(tmp_path: Path) -> None:
    busy = tuple(float(t) for t in range(100, 130, 2))  # the grey changes with every keyframe
    folder = job(tmp_path, 240, sound=None, shots=busy)
    assert max(t for t, d in picture.changes(folder.source(), folder.probe()) if d > 50) == pytest.approx(128, abs=0.1)
    found = run(folder, NOTHING, clips=1)
    (clip,) = found.clips
    assert min(clip.end_s, 130) - max(clip.start_s, 100) > 10
    assert found.notes[0].endswith("chosen by the picture alone")
    assert "much happens in the picture" in clip.reasons


def test_an_endpoint_elsewhere_is_refused_before_any_work(talk_folder: tuple[JobFolder, Talk]) -> None:
    folder, talk = talk_folder
    with pytest.raises(Misconfigured, match="leave this box"):
        run(folder, talk.transcript(), moments.Options(rerank_url="http://example.com/v1"))


def test_only_an_endpoint_needs_the_network() -> None:
    assert not moments.Options().needs_network
    assert moments.Options(rerank_url="http://127.0.0.1:1/v1").needs_network
    encoded = msgspec.json.encode(moments.Options(clips=7))
    assert msgspec.json.decode(encoded, type=moments.Options).clips == 7
