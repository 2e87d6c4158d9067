"""How the source sounds over time: level, noisiness and bursts that are not speech, from one pass over the sound."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.artifacts import Span

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]
    Curve = NDArray[np.float64]
    Mask = NDArray[np.bool_]

RATE_HZ = 16_000
HOP_S = 0.05
_HOP = round(RATE_HZ * HOP_S)
_FLOOR_DB = -90.0
_BAND_HZ = (500.0, 6000.0)
"""Where flatness is measured: below are rumble and hum, above nothing is left of telephone and web sound."""
_REACTION_MIN_S, _REACTION_MAX_S = 0.4, 10.0
"""Shorter is a click, longer is music or a room."""
_REACTION_BELOW_DB = 12.0
"""A reaction is at most this far below the typical speech."""
_SPEECH_EDGE_S = 0.15
"""Heard speech is padded by about this much; the rest of the padding counts as not speech."""
_JOIN_S = 0.25


@dataclass(frozen=True, slots=True)
class Sound:
    """Curves with one value each 50 ms from source time 0."""

    level_db: Curve
    """RMS re full scale, at least -90."""
    flatness: Curve
    """Spectral flatness in 500-6000 Hz, 0 (a tone) to 1 (noise)."""

    def __len__(self) -> int:
        return len(self.level_db)

    def frame(self, t_s: float) -> int:
        """Index of the value at `t_s`, clipped to the curve."""
        return min(max(int(t_s / HOP_S), 0), len(self.level_db))

    def quietest(self, start_s: float, end_s: float, wish_s: float) -> float:
        """Middle of the quietest 50 ms inside [start_s, end_s], near `wish_s` among equals; `wish_s` if none fits."""
        import numpy as np

        first, last = int(np.ceil(start_s / HOP_S)), min(int(end_s / HOP_S), len(self.level_db))
        if first >= last:
            return wish_s
        middles = (np.arange(first, last) + 0.5) * HOP_S
        cost = np.round(self.level_db[first:last] / 3.0) + np.abs(middles - wish_s)  # 3 dB are worth a second
        return float(min(max(middles[int(np.argmin(cost))], start_s), end_s))


def listen(blocks: Iterable[Samples]) -> Sound:
    """Measure mono 16 kHz blocks of any length; holds two numbers for each 50 ms."""
    import numpy as np

    levels: list[Curve] = []
    flats: list[Curve] = []
    rest: Samples = np.zeros(0, np.float32)
    bins = np.fft.rfftfreq(_HOP, 1 / RATE_HZ)
    band = (bins >= _BAND_HZ[0]) & (bins <= _BAND_HZ[1])
    window = np.hanning(_HOP).astype(np.float32)
    for block in blocks:
        rest = np.concatenate([rest, np.asarray(block, np.float32).reshape(-1)])
        whole = len(rest) // _HOP * _HOP
        if not whole:
            continue
        frames = rest[:whole].reshape(-1, _HOP)
        rest = rest[whole:]
        power = np.mean(np.square(frames, dtype=np.float64), axis=1)
        spectrum = np.abs(np.fft.rfft(frames * window, axis=1))[:, band] ** 2 + 1e-12
        levels.append(np.maximum(10 * np.log10(power + 1e-12), _FLOOR_DB))
        flats.append(np.exp(np.mean(np.log(spectrum), axis=1)) / np.mean(spectrum, axis=1))
    if not levels:
        return Sound(np.zeros(0), np.zeros(0))
    return Sound(np.concatenate(levels), np.concatenate(flats))


def mask_of(spans: Sequence[Span], frames: int, shrink_s: float = 0.0) -> Mask:
    """Which of `frames` values lie inside one of the spans, each shortened by `shrink_s` at both ends."""
    import numpy as np

    mask = np.zeros(frames, np.bool_)
    for span in spans:
        first = round((span.start_s + shrink_s) / HOP_S)
        last = round((span.end_s - shrink_s) / HOP_S)
        mask[max(first, 0) : max(last, 0)] = True
    return mask


def reactions(sound: Sound, speech: Sequence[Span]) -> list[tuple[Span, str]]:
    """Bursts of 0.4 to 10 s between the speech that are nearly as loud as it: ("applause" if noise-like, "laughter").

    A heuristic: laughter, applause, cheers, but also a short jingle. It raises a moment's score, it decides nothing.
    """
    import numpy as np

    if not len(sound) or not speech:
        return []
    talk = mask_of(speech, len(sound), _SPEECH_EDGE_S)
    if not talk.any():
        return []
    loud = float(np.median(sound.level_db[talk])) - _REACTION_BELOW_DB
    found: list[tuple[Span, str]] = []
    for first, last in runs(~talk & (sound.level_db > loud), round(_JOIN_S / HOP_S)):
        length_s = (last - first) * HOP_S
        if _REACTION_MIN_S <= length_s <= _REACTION_MAX_S:
            noisy = float(np.median(sound.flatness[first:last])) > 0.3
            span = Span(start_s=first * HOP_S, end_s=last * HOP_S)
            found.append((span, "applause" if noisy else "laughter"))
    return found


def runs(mask: Mask, join: int) -> list[tuple[int, int]]:
    """Stretches [first, last) where `mask` holds, gaps of up to `join` values closed."""
    import numpy as np

    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    merged: list[tuple[int, int]] = []
    for first, last in edges.reshape(-1, 2).tolist():
        if merged and first - merged[-1][1] <= join:
            merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return merged
