"""Ranges: exact pictures, exact samples, little work, flat memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from stages.errors import Rejected
from stages.media.audio import read_audio
from stages.media.probe import probe_media
from stages.media.video import read_frames, upright_size
from tests.media.maker import Spec, make
from tests.media.scenes import strip_height

ROOT = Path(__file__).parents[3]
SPEC = Spec(seconds=8.0, scenes=("walk",), width=320, height=180, keyframe_s=2.0, b_frames=2, strip=True)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("start_s", [0.0, 0.5, 1.99, 2.0, 2.01, 5.3, 7.9])
def test_a_range_holds_the_same_pictures_as_the_whole(suffix: str, start_s: float) -> None:
    path, _ = make(msgspec.structs.replace(SPEC, suffix=suffix))
    probe = probe_media(path)
    whole = [f for f in read_frames(path, probe, 0.0, 99.0, pix_fmt="gray") if start_s <= f.t_s + 1e-6 < start_s + 0.6]
    part = list(read_frames(path, probe, start_s, start_s + 0.6, pix_fmt="gray"))
    assert [f.t_s for f in part] == [f.t_s for f in whole]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(part, whole, strict=True))
    assert [f.index for f in part] == list(range(len(part)))


def test_a_grid_gives_one_picture_a_step() -> None:
    path, _ = make(SPEC)
    probe = probe_media(path)
    for every_s in (0.1, 0.25, 1 / 3, 1.0):
        times = [f.t_s for f in read_frames(path, probe, 1.0, 7.0, pix_fmt="gray", width=64, every_s=every_s)]
        assert len(times) == pytest.approx(6.0 / every_s, abs=1)
        assert all(-0.02 * every_s <= t - (1.0 + n * every_s) <= 0.11 for n, t in enumerate(times))


def test_pictures_are_scaled_and_keep_their_geometry() -> None:
    """The luma ramp along the bottom tells x: after scaling it must still be a straight line."""
    path, _ = make(SPEC)
    probe = probe_media(path)
    frame = next(read_frames(path, probe, 1.0, 2.0, pix_fmt="gray", width=160))
    assert frame.image.shape == (90, 160)
    row = frame.image[-max(1, strip_height(180) // 2 - 1)].astype(float)
    slope, offset = np.polyfit(np.arange(160), row, 1)
    assert slope == pytest.approx((235 - 16) / 159, rel=0.03)
    assert offset == pytest.approx(16, abs=4)
    assert upright_size(probe, 161) == (160, 90)
    colour = next(read_frames(path, probe, 1.0, 2.0, pix_fmt="bgr24"))
    assert colour.image.shape == (180, 320, 3)
    assert colour.image.dtype == np.uint8


def test_a_wrong_pixel_format_is_a_mistake_of_the_caller() -> None:
    path, _ = make(SPEC)
    with pytest.raises(ValueError, match="yuv420p"):
        next(read_frames(path, probe_media(path), 0, 1, pix_fmt="yuv420p"))


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mov", "pcm_s16le"), (".mp4", "alac"), (".mkv", "flac"), (".mp4", "aac"), (".ts", "aac")]
)
def test_samples_of_a_range_equal_those_of_the_whole(suffix: str, codec: str) -> None:
    path, _ = make(msgspec.structs.replace(SPEC, suffix=suffix, audio_codec=codec))
    probe = probe_media(path)
    whole = np.concatenate(list(read_audio(path, probe, 0.0, 8.0, rate_hz=48_000)))[:, 0]
    assert whole.shape == (384_000,)
    assert whole.dtype == np.float32
    for start_s, end_s in ((0.0, 1.0), (1.234, 3.0), (4.0, 4.01), (6.5, 7.9)):
        part = np.concatenate(list(read_audio(path, probe, start_s, end_s, rate_hz=48_000)))[:, 0]
        begin = round(start_s * 48_000)
        assert len(part) == round((end_s - start_s) * 48_000)
        errors = {
            lag: float(np.square(part[50:-50] - whole[begin + lag + 50 : begin + lag + len(part) - 50]).sum())
            for lag in range(-48, 49)
            if begin + lag >= 0
        }
        best = min(errors, key=lambda lag: errors[lag])
        # Matroska rounds timestamps to 1 ms, 48 samples; AAC's noise differs each time, so only the best lag tells.
        assert abs(best) <= (24 if suffix == ".mkv" else 0), start_s
        assert errors[best] <= (1e-6 if codec != "aac" else 0.1 * float(np.square(part).sum()) + 1e-6), start_s


def test_silence_stands_where_there_is_no_sound() -> None:
    path, truth = make(Spec(seconds=4.0, scenes=("seated",), width=160, height=90, audio_late_s=2.0))
    probe = probe_media(path)
    sound = np.concatenate(list(read_audio(path, probe, -1.0, 6.0, rate_hz=16_000, channels=2)))
    assert sound.shape == (112_000, 2)
    late = 2.0 // (1024 / 48_000) * (1024 / 48_000)
    assert not sound[: round((1.0 + late - 0.05) * 16_000)].any()
    assert not sound[round((1.0 + 4.0 + 0.1) * 16_000) :].any()
    word = next(w for w in truth.words if w.start_s > 2.1)
    at = round((1.0 + word.start_s) * 16_000)
    assert np.abs(sound[at : at + 3200]).max() > 0.01


def test_asking_a_silent_video_for_sound_is_refused() -> None:
    path, _ = make(Spec(seconds=2.0, scenes=("seated",), width=160, height=90, audio="none"))
    with pytest.raises(Rejected) as refusal:
        next(read_audio(path, probe_media(path), 0, 1, rate_hz=16_000))
    assert refusal.value.code == "no-audio"


def test_the_centre_of_a_surround_mix_is_heard() -> None:
    path, truth = make(Spec(seconds=3.0, scenes=("seated",), width=160, height=90, audio="5.1"))
    sound = np.concatenate(list(read_audio(path, probe_media(path), 0, 3, rate_hz=16_000)))
    word = truth.words[0]
    assert np.abs(sound[round(word.start_s * 16_000) : round(word.end_s * 16_000)]).max() > 0.05


_READ_ALL = """
import sys
from pathlib import Path
from stages.media.audio import read_audio
from stages.media.kernel import peak_rss_bytes
from stages.media.probe import probe_media
from stages.media.video import read_frames
path, end_s = Path(sys.argv[1]), float(sys.argv[2])
probe = probe_media(path)
pictures = sum(1 for _ in read_frames(path, probe, 0, end_s, pix_fmt="gray", width=64))
samples = sum(len(c) for c in read_audio(path, probe, 0, end_s, rate_hz=16000))
print(pictures, samples, peak_rss_bytes())
"""


def test_memory_does_not_grow_with_the_range() -> None:
    path, _ = make(Spec(seconds=24.0, repeat=50, width=320, height=180, scenes=("seated", "pair")))
    peaks = []
    for end_s in (10, 130):
        command = [sys.executable, "-c", _READ_ALL, str(path), str(end_s)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
        pictures, samples, peak = map(int, done.stdout.split())
        assert (pictures, samples) == (30 * end_s, 16_000 * end_s)
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 12 * 2**20
