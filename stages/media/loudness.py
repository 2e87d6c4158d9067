"""Loudness by EBU R128 / ITU-R BS.1770, measured by libavfilter, and the gain that brings a clip to its target."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
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
    return Loudness(integrated(samples, rate_hz), true_peak(samples, rate_hz))


def integrated(samples: Samples, rate_hz: int) -> float:
    """Integrated loudness in LUFS, -70 for silence."""
    import av
    from av.audio.frame import AudioFrame
    from av.filter import Graph

    graph = Graph()
    source = graph.add_abuffer(sample_rate=rate_hz, format="flt", layout="stereo", time_base=Fraction(1, rate_hz))
    meter = graph.add("ebur128", metadata="1", framelog="quiet")
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
    return float(found.get("lavfi.r128.I", _FLOOR_LUFS))


def true_peak(samples: Samples, rate_hz: int) -> float:
    """dBTP by fourfold oversampling (BS.1770 annex 2); -inf for silence."""
    import numpy as np

    loudest = float(np.abs(samples).max(initial=0.0))
    if loudest == 0.0:
        return float("-inf")
    return 20.0 * float(np.log10(_block_peaks(samples, rate_hz, loudest / 2).max(initial=loudest)))


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
    most_db = ceiling_dbtp - found.true_peak_dbtp + _MAX_LIMITING_DB
    for _ in range(_LIMITER_ROUNDS):
        gain_db = min(gain_db, most_db)
        limited = limit(samples * np.float32(10 ** (gain_db / 20)), rate_hz, ceiling_dbtp)
        short_db = target_lufs - integrated(limited, rate_hz)
        if abs(short_db) <= _CLOSE_LU or (short_db > 0 and gain_db == most_db):
            break
        gain_db += short_db
    over_db = found.true_peak_dbtp + gain_db - ceiling_dbtp
    return limited, f"loudness: peaks limited by up to {over_db:.1f} dB to reach {target_lufs:g} LUFS"


def limit(samples: Samples, rate_hz: int, ceiling_dbtp: float) -> Samples:
    """Look-ahead limiter without delay: both channels get the same gain, which falls 5 ms before a peak.

    Per block, the gain that its true peak needs is held over the look-ahead, released over 60 ms, and averaged over
    one block less than it was held, so it never exceeds what any peak under it allows.
    """
    import numpy as np
    from scipy.ndimage import minimum_filter1d, uniform_filter1d

    ceiling = 10 ** (ceiling_dbtp / 20)
    peaks = _block_peaks(samples, rate_hz, ceiling / 2)
    if peaks.max(initial=0.0) <= ceiling:
        return samples
    needed = np.minimum(1.0, ceiling / np.maximum(peaks, 1e-9))
    held = _release(minimum_filter1d(needed, 2 * _LOOK_AHEAD_BLOCKS + 3, mode="nearest"))
    gain = uniform_filter1d(held, 2 * _LOOK_AHEAD_BLOCKS + 1, mode="nearest")
    block = _block(rate_hz)
    at = np.arange(len(samples), dtype=np.float32)
    fine = np.interp(at, np.arange(len(gain)) * block + (block - 1) / 2, gain).astype(np.float32)
    return np.asarray(samples * fine[:, None], np.float32)


def _release(gain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fall at once, rise no faster than an exponential."""
    import math

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
    """The largest absolute value of each block over both channels; true peak for blocks whose samples reach `floor`.

    A true peak more than 6 dB above its samples does not occur in sound, so with `floor` at half of what matters no
    block that matters is left out.
    """
    import numpy as np
    from scipy.signal import resample_poly

    block = _block(rate_hz)
    padded = np.pad(samples, ((0, -len(samples) % block), (0, 0)))
    peaks: NDArray[np.float64] = np.abs(padded).max(axis=1).reshape(-1, block).max(axis=1).astype(np.float64)
    loud = np.flatnonzero(peaks >= floor)
    margin = 16
    edged = np.pad(padded, ((margin, margin), (0, 0)))
    spread = np.arange(block + 2 * margin)
    for first in range(0, len(loud), 4096):
        chosen = loud[first : first + 4096]
        pieces = edged[chosen[:, None] * block + spread]
        dense = resample_poly(pieces, _OVERSAMPLING, 1, axis=1, window=_interpolator())
        inner = dense[:, margin * _OVERSAMPLING : (margin + block) * _OVERSAMPLING]
        peaks[chosen] = np.maximum(peaks[chosen], np.abs(inner).max(axis=(1, 2)))
    return peaks


def _interpolator() -> NDArray[np.float32]:
    """Low-pass of the oversampler: 12 taps a phase, as BS.1770 annex 2 has it. `resample_poly` scales it."""
    import numpy as np
    from scipy.signal import firwin

    taps = firwin(12 * _OVERSAMPLING + 1, 1.0 / _OVERSAMPLING, window=("kaiser", 5.0))
    return np.asarray(taps, np.float32)
