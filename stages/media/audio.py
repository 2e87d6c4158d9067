"""Sound of a range of the source, aligned to the sample with source time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stages.artifacts import Probe
from stages.errors import Rejected
from stages.media.clock import decoded
from stages.media.limits import DEFAULT_LIMITS, MediaLimits

if TYPE_CHECKING:
    import numpy as np
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

_LAYOUTS = {1: "mono", 2: "stereo"}
_PRE_ROLL_S = 0.25
"""Decoded and dropped before the range: transform codecs need their forerunners (AAC 2, Opus 80 ms)."""
_GAP_S = 0.02
"""Timestamps may be off by this much (container rounding, VBR in AVI) before it counts as a gap or an overlap."""


def read_audio(
    path: Path,
    probe: Probe,
    start_s: float,
    end_s: float,
    *,
    rate_hz: int,
    channels: int = 1,
    limits: MediaLimits = DEFAULT_LIMITS,
) -> Iterator[Samples]:
    """Yield float32 arrays (n, channels) that together hold exactly round((end_s - start_s) * rate_hz) samples.

    Sample i sounds at source time start_s + i / rate_hz. Where the source is silent by lack of sound (late start, gap,
    early end, end_s past the end) there is silence; where it repeats itself the later part is cut. Chunks have about
    a second. Full scale is 1; `channels` is 1 or 2, mixed down by FFmpeg's standard matrix. Raises `Rejected` with
    code `no-audio` when the probe found no sound.
    """
    import numpy as np

    if channels not in _LAYOUTS:
        raise ValueError(f"channels is 1 or 2, not {channels}")
    if probe.audio is None:
        raise Rejected("this video has no sound", "no-audio")
    total = max(0, round((end_s - start_s) * rate_hz))
    chunk = np.zeros((rate_hz, channels), np.float32)
    base = 0  # position of chunk[0]
    written = 0  # end of what is placed so far
    for placed, samples in _placed(path, probe, start_s, end_s, rate_hz, channels, limits):
        position = placed
        if position < written:
            samples = samples[written - position :]
            position = written
        samples = samples[: max(0, total - position)]
        while len(samples):
            while position >= base + rate_hz:
                yield chunk
                chunk = np.zeros_like(chunk)
                base += rate_hz
            part = samples[: base + rate_hz - position]
            chunk[position - base : position - base + len(part)] = part
            samples = samples[len(part) :]
            position += len(part)
            written = position
    while base < total:
        yield chunk[: total - base]
        chunk = np.zeros_like(chunk)
        base += rate_hz


def _placed(
    path: Path, probe: Probe, start_s: float, end_s: float, rate_hz: int, channels: int, limits: MediaLimits
) -> Iterator[tuple[int, Samples]]:
    """Yield (sample position from `start_s`, samples at `rate_hz`); positions may be negative, overlap or jump."""
    run: _Run | None = None
    for t_s, frame in decoded(path, probe, "audio", start_s - _PRE_ROLL_S, end_s, limits):
        if run is None or not run.continues(t_s, frame):
            if run is not None:
                yield from run.finish()
            run = _Run(t_s, round((t_s - start_s) * rate_hz), frame, rate_hz, channels)
        yield from run.add(frame)
    if run is not None:
        yield from run.finish()


class _Run:
    """A gapless stretch of sound of one format through one resampler."""

    def __init__(self, t_s: float, position: int, frame: AudioFrame, rate_hz: int, channels: int) -> None:
        from av.audio.resampler import AudioResampler

        self._start_s = t_s
        self._position = position
        self._channels = channels
        self._format = (frame.format.name, frame.layout.name, frame.sample_rate)
        self._taken = 0
        self._resampler: AudioResampler = AudioResampler(format="flt", layout=_LAYOUTS[channels], rate=rate_hz)

    def continues(self, t_s: float, frame: AudioFrame) -> bool:
        expected_s = self._start_s + self._taken / self._format[2]
        same = self._format == (frame.format.name, frame.layout.name, frame.sample_rate)
        return same and abs(t_s - expected_s) <= _GAP_S

    def add(self, frame: AudioFrame | None) -> Iterator[tuple[int, Samples]]:
        import numpy as np

        if frame is not None:
            self._taken += frame.samples
            frame.pts = None  # the resampler must not fill gaps of its own
        for out in self._resampler.resample(frame):
            samples = np.asarray(out.to_ndarray(), np.float32).reshape(-1, self._channels)
            yield self._position, samples
            self._position += len(samples)

    def finish(self) -> Iterator[tuple[int, Samples]]:
        return self.add(None)
