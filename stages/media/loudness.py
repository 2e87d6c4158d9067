"""Loudness by EBU R128 / ITU-R BS.1770, measured by libavfilter, and the gain that brings a clip to its target."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

QUIET_LUFS = -50.0
"""At or below this a clip is room noise or silence: raising it by 36 dB and more would only raise the noise."""
_FLOOR_LUFS = -70.0
"""The absolute gate of BS.1770: ebur128 reports it for silence and for less than one 400 ms block."""
_BLOCK_S = 0.001
"""Gains of the limiter are computed per block and interpolated: far below what an ear resolves."""
_LOOK_AHEAD_BLOCKS = 5
_RELEASE_S = 0.060
_CHUNK = 48_000
_OVERSAMPLING = 4
_TAPS = 16
"""Samples on each side that a value between two samples is made of."""
_PIECES = 8192
_NEAR_SHARE = 0.7
"""A wave between samples rises at most some 3 dB above them, so blocks below this share of the ceiling are safe."""
_LIMITER_ROUNDS = 4
_CLOSE_LU = 0.2
_MAX_LIMITING_DB = 20.0
"""A peak that needs more than this is a click or a crash: the clip may then stay softer than its target."""


@dataclass(frozen=True, slots=True)
class Loudness:
    integrated_lufs: float
    """-70 for silence."""
    true_peak_dbtp: float
    """-inf for silence."""

    @property
    def quiet(self) -> bool:
        return self.integrated_lufs <= QUIET_LUFS


def measure(samples: Samples, rate_hz: int) -> Loudness:
    """Integrated loudness and true peak of float `samples` (n, 2), full scale 1."""
    found = _ebur128(samples, rate_hz, peak="true")
    peak = float(found.get("lavfi.r128.true_peak", 0.0))
    return Loudness(float(found.get("lavfi.r128.I", _FLOOR_LUFS)), 20 * math.log10(peak) if peak > 0 else float("-inf"))


def integrated(samples: Samples, rate_hz: int) -> float:
    """Integrated loudness in LUFS, -70 for silence; a third of the time of `measure`."""
    return float(_ebur128(samples, rate_hz, peak="none").get("lavfi.r128.I", _FLOOR_LUFS))


def _ebur128(samples: Samples, rate_hz: int, peak: str) -> dict[str, str]:
    """What libavfilter's meter has found at the end; it reports up to each frame in that frame's metadata."""
    import av
    from av.audio.frame import AudioFrame
    from av.filter import Graph

    graph = Graph()
    source = graph.add_abuffer(sample_rate=rate_hz, format="flt", layout="stereo", time_base=Fraction(1, rate_hz))
    meter = graph.add("ebur128", metadata="1", framelog="quiet", peak=peak)
    graph.link_nodes(source, meter, graph.add("abuffersink"))
    graph.configure()
    found: dict[str, str] = {}

    def drain() -> None:
        while True:
            try:
                found.update(graph.pull().metadata)
            except (av.error.BlockingIOError, av.error.EOFError):
                return

    for at in range(0, len(samples), _CHUNK):
        frame = AudioFrame.from_ndarray(samples[at : at + _CHUNK].reshape(1, -1), format="flt", layout="stereo")
        frame.sample_rate = rate_hz
        frame.pts = at
        graph.push(frame)
        drain()
    graph.push(None)
    drain()
    return found


def normalise(
    samples: Samples, rate_hz: int, target_lufs: float, ceiling_dbtp: float, found: Loudness | None = None
) -> tuple[Samples, str | None]:
    """`samples` brought to `target_lufs` with no true peak above `ceiling_dbtp`, and a note when that needed more
    than one gain for the whole clip: a limiter on the peaks, or nothing at all because the clip is silent.
    """
    import numpy as np

    found = found or measure(samples, rate_hz)
    if found.quiet:
        return samples, f"sound left as it is: the clip is silent or very quiet ({found.integrated_lufs:.1f} LUFS)"
    gain_db = target_lufs - found.integrated_lufs
    if found.true_peak_dbtp + gain_db <= ceiling_dbtp:
        return samples * np.float32(10 ** (gain_db / 20)), None
    applied_db = gain_db
    most_db = ceiling_dbtp - found.true_peak_dbtp + _MAX_LIMITING_DB
    for _ in range(_LIMITER_ROUNDS):
        applied_db = gain_db = min(gain_db, most_db)
        limited = limit(samples * np.float32(10 ** (gain_db / 20)), rate_hz, ceiling_dbtp)
        short_db = target_lufs - integrated(limited, rate_hz)
        if abs(short_db) <= _CLOSE_LU or (short_db > 0 and gain_db == most_db):
            break
        gain_db += short_db
    over_db = found.true_peak_dbtp + applied_db - ceiling_dbtp
    return limited, f"loudness: peaks limited by up to {over_db:.1f} dB to reach {target_lufs:g} LUFS"


def limit(samples: Samples, rate_hz: int, ceiling_dbtp: float) -> Samples:
    """Look-ahead limiter without delay: both channels get the same gain, which falls 5 ms before a peak.

    Per block, the gain that its true peak needs is held over the look-ahead, released over 60 ms, and averaged over
    one block less than it was held, so it never exceeds what any peak under it allows.
    """
    import numpy as np

    ceiling = 10 ** (ceiling_dbtp / 20)
    peaks = _block_peaks(samples, rate_hz, ceiling * _NEAR_SHARE)
    if peaks.max(initial=0.0) <= ceiling:
        return samples
    needed = np.minimum(1.0, ceiling / np.maximum(peaks, 1e-9))
    held = _release(_windows(needed, _LOOK_AHEAD_BLOCKS + 1).min(axis=1))
    gain = _windows(held, _LOOK_AHEAD_BLOCKS).mean(axis=1)
    block = _block(rate_hz)
    at = np.arange(len(samples), dtype=np.float32)
    fine = np.interp(at, np.arange(len(gain)) * block + (block - 1) / 2, gain).astype(np.float32)
    return np.asarray(samples * fine[:, None], np.float32)


def _windows(values: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """For each value the 2 * reach + 1 around it; the ends repeat."""
    import numpy as np

    return np.lib.stride_tricks.sliding_window_view(np.pad(values, reach, mode="edge"), 2 * reach + 1)


def _release(gain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fall at once, rise no faster than an exponential."""
    import numpy as np

    keep = math.exp(-_BLOCK_S / _RELEASE_S)
    level = 1.0
    out = []
    for wanted in gain.tolist():
        level = min(wanted, 1.0 - (1.0 - level) * keep)
        out.append(level)
    return np.array(out)


def _block(rate_hz: int) -> int:
    return max(1, round(rate_hz * _BLOCK_S))


def _block_peaks(samples: Samples, rate_hz: int, floor: float) -> NDArray[np.float64]:
    """The largest absolute value of each block over both channels; true peak for blocks whose samples reach `floor`."""
    import numpy as np

    block = _block(rate_hz)
    padded = np.pad(samples, ((0, -len(samples) % block), (0, 0)))
    peaks: NDArray[np.float64] = np.abs(padded).max(axis=1).reshape(-1, block).max(axis=1).astype(np.float64)
    loud = np.flatnonzero(peaks >= floor)
    edged = np.pad(padded, ((_TAPS, _TAPS), (0, 0)))
    between = _interpolator(block)
    spread = np.arange(block + 2 * _TAPS)
    for first in range(0, len(loud), _PIECES):
        chosen = loud[first : first + _PIECES]
        pieces = edged[chosen[:, None] * block + spread].transpose(0, 2, 1)  # (blocks, channels, samples)
        peaks[chosen] = np.maximum(peaks[chosen], np.abs(pieces @ between).max(axis=(1, 2)))
    return peaks


@lru_cache(maxsize=4)
def _interpolator(block: int) -> NDArray[np.float32]:
    """Matrix from a block with `_TAPS` samples on either side to its values between the samples, at four times the
    rate (BS.1770 annex 2): a Kaiser-windowed sinc."""
    import numpy as np

    offsets = np.concatenate([np.arange(block) + k / _OVERSAMPLING for k in range(1, _OVERSAMPLING)]) + _TAPS
    distance = offsets[None, :] - np.arange(block + 2 * _TAPS)[:, None]
    window = np.i0(8.0 * np.sqrt(np.clip(1 - (distance / _TAPS) ** 2, 0.0, None))) / np.i0(8.0)
    kernel = np.sinc(distance) * window * (np.abs(distance) < _TAPS)
    return np.asarray(kernel / kernel.sum(axis=0), np.float32)
