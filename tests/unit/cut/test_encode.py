from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from stages.errors import Misconfigured, Transient
from stages.media.encode import ClipWriter, VideoEncoder, VideoSettings, choose_encoder, try_encoder
from stages.media.resample import planes_of
from stages.media.soundtrack import encode_aac
from stages.media.verify import index_in_front, verify_clip

SETTINGS = VideoSettings("ultrafast", 24, 8000, 1)
SIZE = (128, 96)


def works(encoder: VideoEncoder) -> str | None:
    return None


def fails(encoder: VideoEncoder) -> str | None:
    return "no card"


def test_the_cpu_is_taken_without_a_trial() -> None:
    def never(encoder: VideoEncoder) -> str | None:
        raise AssertionError("tried")

    assert choose_encoder("cpu", never).name == "libx264"


def test_auto_takes_nvenc_where_it_works_and_says_when_not() -> None:
    assert choose_encoder("auto", works).name == "h264_nvenc"
    fallback = choose_encoder("auto", fails)
    assert (fallback.name, fallback.device) == ("libx264", "cpu")
    assert "no card" in fallback.notes[0]


def test_cuda_that_is_not_there_is_a_misconfiguration() -> None:
    assert choose_encoder("cuda", works).device == "cuda"
    with pytest.raises(Misconfigured, match="set it to auto or cpu") as caught:
        choose_encoder("cuda", fails)
    assert caught.value.code == "no-nvenc"


def test_the_trial_is_a_real_encode() -> None:
    x264 = choose_encoder("cpu")
    assert try_encoder(x264) is None
    assert try_encoder(VideoEncoder("h264_nonsense", "cpu", x264.options))
    assert try_encoder(VideoEncoder("libx264", "cpu", lambda settings: {"preset": "nonsense"}))


@pytest.mark.parametrize("name", ["libx264", "h264_nvenc"])
def test_every_option_is_one_the_encoder_has(name: str) -> None:
    """NVENC cannot run here; at least no option of it is misspelt, and named values are among its choices."""
    encoder = choose_encoder("auto", works if name == "h264_nvenc" else fails)
    assert encoder.name == name
    known = av.CodecContext.create(name, "w").supported_options
    options = {option.name: option for option in (*known.generic, *known.private)}
    for key, value in encoder.options(SETTINGS).items():
        assert key in options
        choices = {choice.name for choice in options[key].choices}
        assert not choices or value in choices or value.lstrip("-").isdigit()


def write(
    path: Path,
    count: int = 20,
    sound_s: float | None = None,
    rate: Fraction = Fraction(25),
    settings: VideoSettings = SETTINGS,
    size: tuple[int, int] = SIZE,
) -> None:
    writer = ClipWriter(path, rate, size, choose_encoder("cpu"), settings, 96)
    samples = round((count / rate if sound_s is None else sound_s) * 48_000)
    writer.sound(encode_aac(np.zeros((samples, 2), np.float32), 96))
    for k in range(count):
        picture = VideoFrame(*size, "yuv420p")
        for plane in planes_of(picture):
            plane[:] = 100 + k
        writer.write(picture)
    writer.finish()
    writer.close()


def test_a_written_clip_passes_its_check(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    write(clip)
    assert index_in_front(clip)
    verify_clip(clip, 20, Fraction(25), SIZE)


def slices(packet: bytes) -> int:
    """Coded slices in a picture as MP4 holds it: each unit after its length (ISO/IEC 14496-15), types 1 and 5."""
    found, at = 0, 0
    while at < len(packet):
        length = int.from_bytes(packet[at : at + 4], "big")
        found += packet[at + 4] & 0x1F in (1, 5)
        at += 4 + length
    return found


def test_threads_share_pictures_out_and_do_not_slice_them(tmp_path: Path) -> None:
    """What slicing costs: wall time 1.16 instead of 0.98 of the ffmpeg command's, and bytes."""
    clip = tmp_path / "a.mp4"
    write(clip, settings=VideoSettings("fast", 24, 8000, 4), size=(128, 768))
    with av.open(str(clip)) as container:
        assert [slices(bytes(packet)) for packet in container.demux(video=0) if packet.size] == [1] * 20


@pytest.mark.parametrize(
    ("frames", "rate", "size", "fault"),
    [
        (21, Fraction(25), SIZE, "20 pictures instead of 21"),
        (20, Fraction(30), SIZE, "off the constant rate"),
        (20, Fraction(25), (96, 128), "picture size"),
    ],
)
def test_each_broken_promise_is_named(
    tmp_path: Path, frames: int, rate: Fraction, size: tuple[int, int], fault: str
) -> None:
    clip = tmp_path / "a.mp4"
    write(clip)
    with pytest.raises(Transient, match=fault) as caught:
        verify_clip(clip, frames, rate, size)
    assert caught.value.code == "clip-defective"


def test_sound_that_ends_early_is_named(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    write(clip, count=50, sound_s=1.5)
    with pytest.raises(Transient, match="sound ends"):
        verify_clip(clip, 50, Fraction(25), SIZE)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    write(clip)
    clip.write_bytes(clip.read_bytes()[:300])
    with pytest.raises(Transient, match="failed its check"):
        verify_clip(clip, 20, Fraction(25), SIZE)


def test_an_index_behind_the_media_is_seen(tmp_path: Path) -> None:
    box = tmp_path / "a.mp4"
    box.write_bytes(b"\0\0\0\x08ftyp" + b"\0\0\0\x0cmdat" + b"data" + b"\0\0\0\x08moov")
    assert not index_in_front(box)
    box.write_bytes(b"\0\0\0\x08ftyp" + b"\0\0\0\x08moov" + b"\0\0\0\x0cmdat" + b"data")
    assert index_in_front(box)
    box.write_bytes(b"\0\0\0\x01wide" + (16).to_bytes(8) + b"\0\0\0\x08moov")
    assert index_in_front(box)


def test_a_full_disk_is_explained() -> None:
    with pytest.raises(Transient, match="libx264 failed") as caught:
        write(Path("/dev/full"))
    assert caught.value.code == "encode-failed"
