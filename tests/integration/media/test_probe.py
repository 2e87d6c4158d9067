"""What the probe measures, against what the maker put there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from stages.errors import Rejected
from stages.media.audio import read_audio
from stages.media.probe import probe_media
from stages.media.video import read_frames
from tests.media.maker import Spec, make

BASE: dict[str, Any] = {"seconds": 3.0, "scenes": ("seated", "walk"), "width": 320, "height": 180}
VARIANTS: dict[str, dict[str, Any]] = {
    "24": {"rate": (24, 1)},
    "25-4:3": {"rate": (25, 1), "height": 240},
    "29.97": {"rate": (30_000, 1001)},
    "60": {"rate": (60, 1)},
    "vfr": {"variable_rate": True},
    "rotated-90": {"rotation": 90, "width": 180, "height": 320},
    "rotated-180": {"rotation": 180},
    "rotated-270": {"rotation": 270, "width": 180, "height": 320},
    "hevc-10": {"codec": "libx265", "pix_fmt": "yuv420p10le"},
    "h264-10": {"pix_fmt": "yuv420p10le"},
    "hdr": {"codec": "libx265", "pix_fmt": "yuv420p10le", "hdr": True},
    "444-odd": {"pix_fmt": "yuv444p", "width": 321, "height": 181},
    "squeezed": {"sample_aspect": (4, 3), "width": 240},
    "no-sound": {"audio": "none"},
    "5.1": {"audio": "5.1"},
    "44.1": {"audio_rate_hz": 44_100, "audio": "stereo"},
    "late-sound": {"audio_late_s": 1.0},
    "b-frames": {"b_frames": 3},
    "mkv": {"suffix": ".mkv", "b_frames": 2},
    "mkv-starts-late": {"suffix": ".mkv", "start_s": 5.0},
    "webm": {"suffix": ".webm", "codec": "libvpx"},
    "ts": {"suffix": ".ts", "b_frames": 3},
    "avi": {"suffix": ".avi", "codec": "mpeg4"},
    "mov-prores": {"suffix": ".mov", "codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "2s": {"seconds": 2.0, "scenes": ("seated",)},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_measured_is_what_was_made(name: str) -> None:
    spec = Spec(**{**BASE, **VARIANTS[name]})
    path, truth = make(spec)
    probe = probe_media(path, sha256="abc")
    video = probe.video
    frame_s = 1 / truth.fps
    assert (probe.sha256, probe.size_bytes) == ("abc", path.stat().st_size)
    assert probe.duration_s == pytest.approx(truth.duration_s, abs=1.5 * frame_s)
    assert (video.width, video.height) == (truth.width, truth.height)
    assert video.rotation == spec.rotation
    assert video.variable_rate == spec.variable_rate
    if not spec.variable_rate:
        assert video.fps == pytest.approx(truth.fps, rel=1e-3)
    assert video.bit_depth == (10 if "10le" in spec.pix_fmt else 8)
    assert video.hdr == spec.hdr
    if spec.audio == "none":
        assert probe.audio is None
    else:
        assert probe.audio is not None
        assert probe.audio.channels == {"mono": 1, "stereo": 2, "5.1": 6}[spec.audio]
        assert probe.audio.rate_hz == spec.audio_rate_hz

    # Pictures: all there, where the maker put them, and turned the right way up.
    frames = list(read_frames(path, probe, 0.0, probe.duration_s, pix_fmt="gray", width=160))
    assert len(frames) == len(truth.times_s)
    shift_s = frames[0].t_s
    assert 0 <= shift_s <= 0.035
    tolerance_s = frame_s * 1.01 if spec.suffix == ".avi" else 0.002  # the AVI muxer spends a slot before picture 1
    for frame, t_s in zip(frames, truth.times_s, strict=True):
        assert frame.t_s - shift_s == pytest.approx(t_s, abs=tolerance_s)
    if spec.rotation or spec.sample_aspect != (1, 1):
        plain, _ = make(Spec(**{**BASE, "width": truth.width, "height": truth.height}))
        twin = next(read_frames(plain, probe_media(plain), 0.0, 1.0, pix_fmt="gray", width=160))
        assert frames[0].image.shape == twin.image.shape
        assert np.abs(frames[0].image.astype(int) - twin.image).mean() < 4

    # Sound: the first word starts where it was spoken, on the pictures' clock.
    if probe.audio is not None and spec.audio_late_s == 0:
        sound = np.concatenate(list(read_audio(path, probe, 0.0, probe.duration_s, rate_hz=16_000)))[:, 0]
        loud = np.flatnonzero(np.abs(sound) > 0.01)[0] / 16_000
        begin = truth.words[0].start_s + shift_s
        slack_s = 0.022 + (
            frame_s if spec.suffix == ".avi" else 0
        )  # a container without an edit list keeps AAC's delay
        assert -0.005 <= loud - begin <= 0.02 + slack_s


def test_a_long_file_costs_no_more_than_a_short_one() -> None:
    """Twenty minutes: made by copying packets, measured from head and tail, read in the middle."""
    spec = Spec(seconds=24.0, repeat=50, width=320, height=180, scenes=("seated", "pair"))
    path, truth = make(spec)
    probe = probe_media(path)
    assert probe.duration_s == pytest.approx(1200.0, abs=0.05)
    frames = list(read_frames(path, probe, 1100.0, 1101.0))
    assert [f.t_s for f in frames] == pytest.approx([1100 + n / 30 for n in range(30)], abs=1e-3)
    assert frames[0].image.width == 320
    sentence = next(s for s in truth.sentences if s.start_s > 1100)
    sound = np.concatenate(
        list(read_audio(path, probe, sentence.start_s - 0.25, sentence.start_s + 0.5, rate_hz=48_000))
    )
    assert np.abs(sound[: round(0.2 * 48_000)]).max() < 0.01 < np.abs(sound[round(0.25 * 48_000) :]).max()


def test_a_file_cut_off_in_the_middle_works_as_far_as_it_goes(tmp_path: Path) -> None:
    for suffix in (".mp4", ".mkv", ".ts"):
        path, _ = make(Spec(**{**BASE, "seconds": 8.0, "suffix": suffix, "keyframe_s": 1.0}))
        data = path.read_bytes()
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(data[: len(data) * 6 // 10])
        probe = probe_media(cut)
        assert 2.0 < probe.duration_s < 7.0, suffix
        frames = list(read_frames(cut, probe, 0.0, probe.duration_s))
        assert len(frames) == pytest.approx(probe.duration_s * 30, abs=3), suffix
        if suffix != ".ts":
            assert any("header says" in note for note in probe.notes), suffix


def test_damage_in_the_middle_is_passed_over(tmp_path: Path) -> None:
    path, truth = make(Spec(**{**BASE, "seconds": 8.0, "keyframe_s": 1.0}))
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[begin : begin + 20_000] = np.random.default_rng(1).bytes(20_000)
    hurt = tmp_path / "hurt.mp4"
    hurt.write_bytes(bytes(data))
    probe = probe_media(hurt)
    frames = list(read_frames(hurt, probe, 0.0, probe.duration_s))
    assert frames[-1].t_s > 7.9
    assert len(frames) > 0.7 * len(truth.times_s)
    assert len(np.concatenate(list(read_audio(hurt, probe, 0.0, 8.0, rate_hz=16_000)))) == 128_000


def test_a_header_with_a_wild_duration_is_not_believed(tmp_path: Path) -> None:
    path, truth = make(Spec(**BASE))
    data = bytearray(path.read_bytes())
    for box, offset in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24)):
        at = data.index(box)
        data[at + offset : at + offset + 4] = (0x7FFFFFF0).to_bytes(4, "big")
    wild = tmp_path / "wild.mp4"
    wild.write_bytes(bytes(data))
    probe = probe_media(wild)
    assert probe.duration_s == pytest.approx(truth.duration_s, abs=0.05)


def test_the_probe_artifact_goes_through_json() -> None:
    path, _ = make(Spec(**BASE))
    probe = probe_media(path)
    assert msgspec.json.decode(msgspec.json.encode(probe), type=type(probe)) == probe


def test_a_probe_of_another_file_is_noticed() -> None:
    silent, _ = make(Spec(**{**BASE, "audio": "none"}))
    sounding, _ = make(Spec(**BASE))
    with pytest.raises(Rejected) as refusal:
        list(read_audio(silent, probe_media(sounding), 0, 1, rate_hz=16_000))
    assert refusal.value.code == "changed"
