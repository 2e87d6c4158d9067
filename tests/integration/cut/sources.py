"""Sources that carry their own measure: each picture its number, each flash a beep at the same instant."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 640, 360
BITS = 10
_CELL = 18
_LEFT = (WIDTH - BITS * _CELL) // 2
RATE_HZ = 48_000
FLASH_S = 0.1
_CLOCK = Fraction(1, 90_000)


def numbered(
    path: Path, times: list[Fraction], seconds: float, *, channels: str = "stereo", start_s: float = 0.0
) -> list[float]:
    """Write a video with a picture at each of `times`; returns the flashes' times. The upper half of each picture
    carries its number in `BITS` black or white cells; the lower half is white during a flash, one a second. A 1 kHz
    beep runs from the first to the last picture of each flash."""
    flashes = []
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=30, options={"preset": "ultrafast", "crf": "18", "g": "30"})
        video.width, video.height, video.pix_fmt, video.time_base = WIDTH, HEIGHT, "yuv420p", _CLOCK
        video.codec_context.time_base = _CLOCK
        audio = out.add_stream("aac", rate=RATE_HZ, layout=channels)
        beeps: list[tuple[float, float]] = []
        lit = False
        for n, time in enumerate(times):
            flash = 0.5 <= float(time) % 1.0 < 0.5 + FLASH_S
            if flash and not lit:
                flashes.append(float(time))
                beeps.append((float(time), float(time) + FLASH_S))
            lit = flash
            frame = av.VideoFrame.from_ndarray(_picture(n, flash), format="gray").reformat(format="yuv420p")
            frame.pts = round((time + Fraction(start_s)) / _CLOCK)
            frame.time_base = _CLOCK
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        count = len(av.AudioLayout(channels).channels)
        for at in range(0, round(seconds * RATE_HZ), 1024):
            t = (at + np.arange(1024)) / RATE_HZ
            on = np.zeros(1024, bool)
            for begin, end in beeps:
                on |= (t >= begin) & (t < end)
            wave = (0.3 * np.sin(2 * np.pi * 1000 * t) * on + 0.003 * np.sin(2 * np.pi * 200 * t)).astype(np.float32)
            sound = av.AudioFrame.from_ndarray(np.tile(wave, (count, 1)), format="fltp", layout=channels)
            sound.sample_rate = RATE_HZ
            sound.pts = at + round(start_s * RATE_HZ)
            out.mux(audio.encode(sound))
        out.mux(audio.encode(None))
    return flashes


def waves(path: Path, size: tuple[int, int], period: float, seconds: float) -> None:
    """A standing sine across the picture, `period` pixels long, 30 pictures a second, no sound."""
    line = 128 + 90 * np.sin(2 * np.pi * (np.arange(size[0]) + 0.5) / period)
    picture = np.tile(np.round(line).astype(np.uint8), (size[1], 1))
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=30, options={"preset": "ultrafast", "crf": "4"})
        video.width, video.height, video.pix_fmt = size[0], size[1], "yuv420p"
        for _ in range(round(seconds * 30)):
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="gray").reformat(format="yuv420p")))
        out.mux(video.encode(None))


def interlaced(path: Path, seconds: float) -> None:
    """A bright block moving to the right, each picture two fields of different instants, 25 pictures a second."""
    options = {"preset": "ultrafast", "crf": "12", "flags": "+ildct+ilme"}
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options=options)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for n in range(round(seconds * 25)):
            picture = np.full((HEIGHT, WIDTH), 50, np.uint8)
            for field in (0, 1):
                left = 240 + 8 * (2 * n + field) % 200
                picture[field::2, left : left + 100] = 200
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="gray").reformat(format="yuv420p")))
        out.mux(video.encode(None))


def number_of(luma: NDArray[np.uint8], left: float, scale: float) -> int:
    """The number in an output picture; source column x is at (x - left) * scale."""
    band = luma[luma.shape[0] // 8 : luma.shape[0] * 3 // 8]
    number = 0
    for bit in range(BITS):
        x = (_LEFT + bit * _CELL + _CELL / 2 - left) * scale
        number = number * 2 + int(band[:, int(x) - 2 : int(x) + 3].mean() > 125)
    return number


def flash_starts(luma: NDArray[np.uint8], times_s: list[float]) -> list[float]:
    """Times of the first picture of each flash."""
    rows = luma.shape[1]
    bright = luma[:, rows * 5 // 8 : rows * 7 // 8].mean(axis=(1, 2)) > 125
    return [times_s[i] for i in range(1, len(bright)) if bright[i] and not bright[i - 1]]


def beep_starts(sound: NDArray[np.float32]) -> list[float]:
    """Times at which 1 kHz sets in."""
    block = 96
    mono = sound.mean(axis=1)[: len(sound) // block * block].reshape(-1, block)
    loud = np.sqrt((mono**2).mean(axis=1)) > 0.25 * np.sqrt((mono**2).mean(axis=1)).max()
    starts, last = [], -100
    for i in np.flatnonzero(loud):
        if i - last > 50:
            starts.append(float(i * block / RATE_HZ))
        last = int(i)
    return starts


def _picture(n: int, flash: bool) -> NDArray[np.uint8]:
    picture = np.full((HEIGHT, WIDTH), 60, np.uint8)
    for bit in range(BITS):
        left = _LEFT + bit * _CELL
        picture[: HEIGHT // 2, left : left + _CELL] = 235 if n >> (BITS - 1 - bit) & 1 else 16
    picture[HEIGHT // 2 :] = 235 if flash else 16
    return picture
