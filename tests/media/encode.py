"""From pictures and a voice to a file, and from one file to many of it in a row."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from tests.media.speech import RATE_HZ, Samples, resample

if TYPE_CHECKING:
    from tests.media.maker import Spec
    from tests.media.scenes import Picture

_CLOCK = Fraction(1, 90_000)
_AUDIO_CHUNK = 1024


def encode(spec: Spec, path: Path, times: list[Fraction], pictures: Iterator[Picture], voice: Samples) -> None:
    """Write `pictures` (shown at `times`) and `voice` (mono, `RATE_HZ`) to `path`."""
    options = {"movflags": "+faststart"} if path.suffix in (".mp4", ".mov") else {}
    with av.open(str(path), "w", options=options) as out:
        video = _video(spec, out, times)
        audio = None if spec.audio == "none" else _audio(spec, out)
        sound = iter(()) if audio is None else _sound(spec, voice)
        held = next(sound, None)
        for time, picture in zip(times, pictures, strict=True):
            # Sound goes in as far as the pictures have come, so that the file is interleaved.
            while held is not None and (held.pts or 0) <= (time + Fraction(spec.start_s)) * held.sample_rate:
                out.mux(audio.encode(held))  # type: ignore[union-attr]
                held = next(sound, None)
            out.mux(video.encode(_frame(spec, picture, time, video)))
        while held is not None:
            out.mux(audio.encode(held))  # type: ignore[union-attr]
            held = next(sound, None)
        out.mux(video.encode(None))
        if audio is not None:
            out.mux(audio.encode(None))


def repeat(path: Path, count: int, period: Fraction) -> None:
    """Replace `path` by `count` copies of it in a row, packets copied. `period` must hold whole AAC packets."""
    part = path.with_name(f"{path.stem}.repeat{path.suffix}")
    options = {"movflags": "+faststart"} if path.suffix in (".mp4", ".mov") else {}
    with av.open(str(path)) as source, av.open(str(part), "w", options=options) as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        ends = {s.index: round(period / (s.time_base or 1)) for s in source.streams}
        for n in range(count):
            source.seek(0)
            for packet in source.demux():
                if packet.dts is None or packet.pts is None:
                    continue
                index, base = packet.stream_index, packet.time_base
                if packet.pts >= ends[index] or (n > 0 and packet.pts < 0):
                    continue
                shift = round(n * period / base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = streams[index]
                out.mux(packet)
    os.replace(part, path)


def _video(spec: Spec, out: Any, times: list[Fraction]) -> Any:
    stream = out.add_stream(spec.codec, rate=Fraction(*spec.rate))
    turned = spec.rotation in (90, 270)
    stream.width, stream.height = (spec.height, spec.width) if turned else (spec.width, spec.height)
    stream.pix_fmt = spec.pix_fmt
    context = stream.codec_context
    steady = not spec.variable_rate and not spec.start_s
    context.time_base = 1 / Fraction(*spec.rate) if steady or spec.codec == "mpeg4" else _CLOCK
    context.gop_size = max(1, round(spec.keyframe_s * Fraction(*spec.rate)))
    context.max_b_frames = spec.b_frames
    context.thread_count = 2
    if spec.sample_aspect != (1, 1):
        context.sample_aspect_ratio = Fraction(*spec.sample_aspect)
    context.options = _encoder_options(spec)
    if spec.hdr:
        context.color_primaries, context.color_trc, context.colorspace = 9, 16, 9
    if spec.rotation:
        stream.set_display_rotation(-spec.rotation)
    return stream


def _encoder_options(spec: Spec) -> dict[str, str]:
    if spec.codec == "libx264":
        return {"preset": spec.preset, "crf": "23", "x264-params": f"bframes={spec.b_frames}"}
    if spec.codec == "libx265":
        return {"preset": spec.preset, "crf": "28", "x265-params": "log-level=none:pools=2"}
    if spec.codec.startswith("libvpx"):
        return {"deadline": "realtime", "cpu-used": "8", "b": "1M"}
    return {"b": "3M"} if spec.codec == "mpeg4" else {}


def _frame(spec: Spec, picture: Picture, time: Fraction, video: Any) -> av.VideoFrame:
    if spec.sample_aspect != (1, 1):
        import cv2

        picture = np.asarray(cv2.resize(picture, (spec.width, spec.height), interpolation=cv2.INTER_AREA), np.uint8)
    if spec.rotation:
        picture = np.rot90(picture, k=spec.rotation // 90)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    base = video.codec_context.time_base
    frame.time_base = base
    frame.pts = round((time + Fraction(spec.start_s)) / base)
    if spec.hdr:
        frame.color_primaries, frame.color_trc, frame.colorspace = 9, 16, 9
    return frame


def _audio(spec: Spec, out: Any) -> Any:
    codec = spec.audio_codec or ("libopus" if spec.suffix == ".webm" else "aac")
    stream = out.add_stream(codec, rate=spec.audio_rate_hz)
    stream.layout = spec.audio
    if codec == "aac":
        stream.codec_context.bit_rate = 128_000
    stream.codec_context.time_base = Fraction(1, spec.audio_rate_hz)
    return stream


def _sound(spec: Spec, voice: Samples) -> Iterator[av.AudioFrame]:
    """Frames from `audio_late_s` on; in 5.1 the voice is in the centre over faint noise elsewhere."""
    if spec.audio_rate_hz != RATE_HZ:
        voice = resample(voice, RATE_HZ, spec.audio_rate_hz)
    rate = spec.audio_rate_hz
    noise = np.random.default_rng(spec.seed).normal(0, 0.0005, len(voice)).astype(np.float32)
    voice = voice + noise
    if spec.audio == "mono":
        channels = voice[None]
    elif spec.audio == "stereo":
        channels = np.stack([voice, voice])
    else:  # FL FR FC LFE BL BR
        channels = np.stack([noise, noise, voice, noise * 0, noise, noise])
    begin = round(spec.audio_late_s * rate) // _AUDIO_CHUNK * _AUDIO_CHUNK
    offset = round(spec.start_s * rate)
    for at in range(begin, channels.shape[1], _AUDIO_CHUNK):
        part = np.ascontiguousarray(channels[:, at : at + _AUDIO_CHUNK])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=spec.audio)
        frame.sample_rate = rate
        frame.time_base = Fraction(1, rate)
        frame.pts = at + offset
        yield frame
