"""The whole stage on drawn talks: what lies in the output folder, and what a player makes of it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import av
import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stages import cut
from stages.artifacts import Word
from stages.errors import Transient
from stages.folder import PART_SUFFIX
from stages.media.loudness import measure
from stages.media.verify import index_in_front, verify_clip
from tests.integration.cut.kit import QUICK, Case, case, decode, pane, rgb_frames, shot
from tests.integration.cut.sources import interlaced, waves
from tests.media.maker import Spec, make

SMALL = (360, 640)
TALK = Spec(seconds=6.0, scenes=("seated",), audio="stereo")


def talk(root: Path, spec: Spec = TALK, start_s: float = 0.5, end_s: float = 3.5, **more: object) -> Case:
    video, truth = make(spec)
    return case(root, video, start_s, end_s, truth=truth, **{"size": SMALL, **more})  # type: ignore[arg-type]


def yellow(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    wide = rgb.astype(int)
    return (wide[..., 0] > 190) & (wide[..., 1] > 150) & (wide[..., 2] < 110)


def test_a_clip_at_full_size_with_everything(tmp_path: Path) -> None:
    job = talk(tmp_path, Spec(seconds=4.0, width=1920, height=1080, scenes=("seated",), audio="stereo"), 0.5, 3.5,
               size=(1080, 1920))  # fmt: skip
    result = job.run(cut.Options(preset="ultrafast", device="cpu"))

    names = sorted(p.name for p in job.folder.output.iterdir())
    assert names == ["clip-01.jpg", "clip-01.json", "clip-01.mp4", "clip-01.srt", "clip-01.vtt"]
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith(PART_SUFFIX) or ".cube" in p.name]
    assert index_in_front(job.video)
    with av.open(str(job.video)) as clip:
        video, audio = clip.streams.video[0].codec_context, clip.streams.audio[0].codec_context
        assert (video.name, video.profile, video.width, video.height, video.pix_fmt) == (
            "h264", "High", 1080, 1920, "yuv420p",
        )  # fmt: skip
        assert (video.color_primaries, video.color_trc, video.colorspace, video.color_range) == (1, 1, 1, 1)
        assert (audio.name, audio.sample_rate, audio.channels) == ("aac", 48_000, 2)
        assert clip.streams.video[0].start_time == clip.streams.audio[0].start_time == 0
        keys = [float(p.pts * p.time_base) for p in clip.demux(video=0) if p.is_keyframe and p.pts is not None]
    assert keys[0] == 0
    assert max(np.diff([*keys, 3.0])) <= 2.0 + 1 / 30

    data = job.video.read_bytes()
    assert (result.sha256, result.size_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert (result.path, result.width, result.height, result.encoder) == ("clip-01.mp4", 1080, 1920, "libx264")
    assert result.duration_s == pytest.approx(3.0)
    side = job.sidecar
    assert (side.sha256, side.frames, side.fps, side.layouts, side.title) == (
        result.sha256, 90, 30.0, ["still"], "A talk",
    )  # fmt: skip
    assert side.loudness_lufs == result.loudness_lufs == pytest.approx(-14.0, abs=1.0)
    assert side.true_peak_dbtp is not None
    assert side.true_peak_dbtp <= -0.9
    assert side.words
    assert all(0 <= w.start_s <= w.end_s <= 3.0 for w in side.words)
    assert job.progress == sorted(job.progress)
    assert job.progress[-1] == 1.0
    assert len(job.progress) > 10

    sound = decode(job.video).sound
    assert measure(sound, 48_000).integrated_lufs == pytest.approx(-14.0, abs=1.0)
    still = Image.open(job.folder.output_file(1, ".jpg"))
    assert still.size == (1080, 1920)
    assert not yellow(np.asarray(still)[1000:1500]).sum() > 2000  # without captions


def test_the_same_clip_comes_out_again(tmp_path: Path) -> None:
    job = talk(tmp_path, end_s=1.5)
    first = job.run()
    files = {p.name: p.read_bytes() for p in job.folder.output.iterdir()}
    assert job.run() == first
    assert {p.name: p.read_bytes() for p in job.folder.output.iterdir()} == files


def test_words_light_up_in_their_frames_inside_the_safe_area(tmp_path: Path) -> None:
    job = talk(tmp_path, Spec(seconds=6.0, scenes=("empty",), audio="mono"), 0.2, 4.2)
    job.run()
    lit = [yellow(f) for f in rgb_frames(job.video)]
    plain = talk(tmp_path / "plain", Spec(seconds=6.0, scenes=("empty",), audio="mono"), 0.2, 4.2, captions=False)
    plain.run()
    background = [yellow(f) for f in rgb_frames(plain.video)]
    assert not any(b.sum() > 20 for b in background)

    words = job.sidecar.words
    assert len(words) >= 6
    places = [np.flatnonzero(mask.any(axis=0)).mean() if mask.sum() > 30 else -1.0 for mask in lit]
    for word in words:
        onset = round(word.start_s * 30)
        near = [k for k in range(max(1, onset - 1), min(len(lit), onset + 2)) if abs(places[k] - places[k - 1]) > 2]
        same_word_size = onset == 0 or any(np.any(lit[k] != lit[k - 1]) for k in range(max(1, onset - 1), onset + 2))
        assert near or onset == 0 or same_word_size, f"nothing changes at {word.text} ({word.start_s:.2f} s)"
    rows, columns = (np.flatnonzero(np.any(lit, axis=0).any(axis=axis)) for axis in (1, 0))
    assert rows.max() <= 640 * 0.78
    assert columns.min() >= 360 * 0.08
    assert columns.max() <= 360 * 0.92


def test_captions_touch_nothing_outside_the_safe_area(tmp_path: Path) -> None:
    spec = Spec(seconds=6.0, scenes=("empty",), audio="mono")
    on, off = talk(tmp_path / "on", spec, 0.5, 2.0), talk(tmp_path / "off", spec, 0.5, 2.0, captions=False)
    sharp = msgspec.structs.replace(QUICK, crf=1)
    on.run(sharp)
    off.run(sharp)
    differs = np.abs(decode(on.video).luma.astype(int) - decode(off.video).luma.astype(int)).max(axis=0) > 24
    assert differs.sum() > 1000
    outside = differs.copy()
    outside[: int(640 * 0.78) + 1, int(360 * 0.08) - 1 : int(360 * 0.92) + 2] = False
    assert outside.sum() == 0


def test_the_option_turns_captions_off_but_keeps_subtitles(tmp_path: Path) -> None:
    job = talk(tmp_path, end_s=1.5)
    job.run(msgspec.structs.replace(QUICK, captions=False))
    assert not any(yellow(f)[380:].sum() > 50 for f in rgb_frames(job.video))
    assert "-->" in job.folder.output_file(1, ".srt").read_text()


def test_a_clip_without_words_says_so(tmp_path: Path) -> None:
    job = talk(tmp_path, end_s=1.5, words=[])
    result = job.run()
    assert any("no captions" in note for note in result.notes)
    assert job.folder.output_file(1, ".srt").read_text() == ""
    assert job.folder.output_file(1, ".vtt").read_text() == "WEBVTT\n"


def test_subtitles_follow_the_clip_s_clock(tmp_path: Path) -> None:
    words = [
        Word(text="before", start_s=0.2, end_s=0.4, confidence=1.0),
        Word(text="Tom & Jerry", start_s=1.0, end_s=1.4, confidence=1.0),
        Word(text="<run>", start_s=1.5, end_s=1.9, confidence=1.0),
        Word(text="after", start_s=3.0, end_s=3.4, confidence=1.0),
    ]
    job = talk(tmp_path, start_s=0.5, end_s=2.5, words=words)
    job.run()
    vtt = job.folder.output_file(1, ".vtt").read_text()
    assert "Tom &amp; Jerry <00:00:01.000>&lt;run&gt;" in vtt
    assert "before" not in vtt
    assert "after" not in vtt
    assert re.search(
        r"00:00:00,500 --> 00:00:01,7\d\d\nTom & Jerry <run>", job.folder.output_file(1, ".srt").read_text()
    )


def test_the_path_is_the_planned_one_to_a_fraction_of_a_pixel(tmp_path: Path) -> None:
    """A standing wave as the source: its phase in each decoded picture tells where the window lay."""
    source, w, period = tmp_path / "waves.mp4", 405.0, 40.0
    waves(source, (1280, 720), period, seconds=3.2)
    shots = [
        shot(0.5, 2.0, "still", pane((0.5, 437.3, 0, w, 720))),
        shot(2.0, 3.0, "follow", pane((2.0, 100.0, 0, w, 720), (2.75, 400.7, 0, w, 720), (3.0, 400.7, 0, w, 720))),
    ]
    job = case(tmp_path, source, 0.5, 3.0, shots=shots, words=[], size=(540, 960))
    job.run(msgspec.structs.replace(QUICK, crf=6))
    found = []
    for k, picture in enumerate(decode(job.video).luma):
        t = 0.5 + k / 30
        planned = 437.3 if t < 2.0 - 1e-6 else float(np.interp(t, [2.0, 2.75], [100.0, 400.7]))
        row = picture[300:700].astype(float).mean(axis=0)
        at = (np.arange(len(row)) + 0.5) * w / len(row)
        basis = np.stack([np.sin(2 * np.pi * at / period), np.cos(2 * np.pi * at / period), np.ones(len(row))], axis=1)
        (a, b, _), *_ = np.linalg.lstsq(basis, row, rcond=None)
        off = float(np.arctan2(b, a)) * period / 2 / np.pi - planned
        found.append((off + period / 2) % period - period / 2)
    assert len(found) == 75
    assert np.abs(found[:45]).max() <= 0.25  # standing still
    assert np.abs(found[45:]).max() <= 0.1  # moving 13 pixels a frame


def test_layouts_change_on_the_cut_itself(tmp_path: Path) -> None:
    spec = Spec(seconds=4.0, scenes=("page", "seated", "pair", "empty"), audio="mono")
    full = pane((0.0, 0, 0, 640, 360))
    shots = [
        shot(0.0, 1.0, "fit", full),
        shot(1.0, 2.0, "still", pane((1.0, 218, 0, 202.5, 360))),
        shot(2.0, 3.0, "stack", pane((2.0, 20, 0, 300, 266), top=0.0, height=0.5),
             pane((2.0, 330, 0, 300, 266), top=0.5, height=0.5)),
        shot(3.0, 4.0, "fit", full),
    ]  # fmt: skip
    job = talk(tmp_path, spec, 0.0, 4.0, shots=shots, captions=False)
    job.run()
    luma = decode(job.video).luma.astype(int)
    change = np.abs(np.diff(luma, axis=0)).mean(axis=(1, 2))
    assert set(np.argsort(change)[-3:] + 1) == {30, 60, 90}
    page = luma[15]
    assert page[220:400].mean() > 150  # the white page in the middle
    assert page[:150].mean() < 110  # darkened fill above and below
    assert page[500:].mean() < 110


@pytest.mark.parametrize("layout", ["none", "mono", "5.1"])
def test_any_sound_becomes_stereo_at_the_target(tmp_path: Path, layout: str) -> None:
    spec = Spec(seconds=6.0, scenes=("seated",), audio=layout)  # type: ignore[arg-type]
    job = talk(tmp_path, spec, 0.5, 4.5)
    result = job.run()
    sound = decode(job.video).sound
    assert sound.shape[1] == 2
    if layout == "none":
        assert np.abs(sound).max() < 1e-4
        assert result.loudness_lufs is None
        assert any("no sound" in note for note in result.notes)
    else:
        assert measure(sound, 48_000).integrated_lufs == pytest.approx(-14.0, abs=1.0)
        assert np.abs(sound[:24]).max() < 0.02  # faded in


@pytest.mark.parametrize(
    "change",
    [
        {"rotation": 90}, {"rotation": 270}, {"rotation": 180}, {"width": 639, "height": 359, "pix_fmt": "yuv444p"},
        {"pix_fmt": "yuv420p10le", "codec": "libx265", "suffix": ".mkv"}, {"sample_aspect": (4, 3)},
        {"suffix": ".webm", "codec": "libvpx"}, {"suffix": ".ts"},
    ],
    ids=["90", "270", "180", "odd", "10-bit", "anamorphic", "webm", "ts"],
)  # fmt: skip
def test_every_kind_of_source_looks_alike(tmp_path: Path, change: dict[str, object]) -> None:
    """The same scene through another container, depth or orientation gives the same picture."""
    base = Spec(seconds=2.0, scenes=("close",), audio="mono", width=640, height=360)
    spec = msgspec.structs.replace(base, **change)
    job = talk(tmp_path / "a", spec, 0.2, 1.2, captions=False)
    job.run(msgspec.structs.replace(QUICK, crf=4))
    clip = decode(job.video).luma[10].astype(float)
    if "sample_aspect" in change:
        assert clip.std() > 20  # drawn wider, so not the same picture
        return
    reference = talk(tmp_path / "b", base, 0.2, 1.2, captions=False)
    reference.run(msgspec.structs.replace(QUICK, crf=4))
    other = decode(reference.video).luma[10].astype(float)
    blurred = [cv2.GaussianBlur(p, (0, 0), 3) for p in (clip, other)]  # grain and codec noise aside
    assert np.abs(blurred[0] - blurred[1]).mean() < (5.0 if "width" in change else 3.0)  # drawn anew at its own size


def test_hdr_is_brought_to_sdr_and_said(tmp_path: Path) -> None:
    spec = Spec(seconds=2.0, scenes=("close",), audio="mono", codec="libx265", pix_fmt="yuv420p10le", hdr=True)
    job = talk(tmp_path, spec, 0.2, 1.2, captions=False)
    result = job.run()
    assert any("tone-mapped" in note for note in result.notes)
    luma = decode(job.video).luma
    assert 30 < luma.mean() < 200
    assert luma.std() > 15


def test_fields_do_not_comb(tmp_path: Path) -> None:
    source = tmp_path / "fields.mp4"
    interlaced(source, 2.0)
    job = case(tmp_path, source, 0.4, 1.4, words=[], size=(202, 360))
    result = job.run(msgspec.structs.replace(QUICK, crf=6))
    assert any("deinterlaced" in note for note in result.notes)
    luma = decode(job.video).luma.astype(int)
    assert len(luma) == 25
    assert luma.std() > 30
    assert np.abs(2 * luma[:, 1:-1] - luma[:, :-2] - luma[:, 2:]).mean() < 2.0


def test_a_plan_for_another_range_is_refused(tmp_path: Path) -> None:
    shots = [shot(0.5, 1.0, "still", pane((0.5, 0, 0, 202.5, 360)))]
    job = talk(tmp_path, shots=shots)
    plan = msgspec.structs.replace(job.folder.crop(1), end_s=1.0)
    job.folder.save(job.folder.clip_dir(1) / "crop.json", plan)
    with pytest.raises(Transient, match="run the crop stage again") as caught:
        job.run()
    assert caught.value.code == "plan-stale"


def test_a_range_without_pictures_leaves_nothing_behind(tmp_path: Path) -> None:
    job = talk(tmp_path, start_s=30.0, end_s=32.0)
    with pytest.raises(Transient) as caught:
        job.run()
    assert caught.value.code == "range-empty"
    assert not list(job.folder.output.iterdir())


def test_a_missing_artifact_names_the_stage_before(tmp_path: Path) -> None:
    job = talk(tmp_path)
    (job.folder.clip_dir(1) / "crop.json").unlink()
    with pytest.raises(Transient, match=r"crop\.json is missing"):
        job.run()


def test_a_clip_that_fails_its_check_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = talk(tmp_path, end_s=1.5)
    real = verify_clip

    def after_damage(path: Path, frames: int, *more: object) -> None:
        real(path, frames + 1, *more)  # type: ignore[arg-type]  # as if a picture had been lost

    monkeypatch.setattr(cut, "verify_clip", after_damage)
    with pytest.raises(Transient, match="30 pictures instead of 31") as caught:
        job.run()
    assert caught.value.code == "clip-defective"
    assert not list(job.folder.output.iterdir())
