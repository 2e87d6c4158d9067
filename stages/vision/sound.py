"""What the speaker detector needs of the sound: how loud the voice band is over time, and when somebody speaks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stages.artifacts import Span

if TYPE_CHECKING:
    Samples = NDArray[np.float32]

Floats = NDArray[np.float64]

RATE_HZ = 16000
GRID_HZ = 25
"""Steps per second of everything that is compared with mouths."""
VOICE_BAND_HZ = (200.0, 3800.0)


class Voice(Struct, frozen=True, kw_only=True):
    """Step i is the 1/GRID_HZ s from start_s + i / GRID_HZ."""

    start_s: float
    level: Floats
    """0 (quiet) to 1 (as loud as the clip's loud parts), on a decibel scale."""
    speech: NDArray[np.bool_]


def listen(chunks: Iterable[Samples], start_s: float, spans: list[Span] | None) -> Voice:
    """Measure a mono stream at RATE_HZ, float32 (n, 1) chunks of any length; memory holds one chunk.

    `spans`: where a voice-activity detector heard speech (source time); None lets the level decide.
    """
    from scipy.signal import butter, sosfilt

    filters = butter(4, VOICE_BAND_HZ, btype="bandpass", fs=RATE_HZ, output="sos")
    state = np.zeros((filters.shape[0], 2))
    hop = RATE_HZ // GRID_HZ
    powers: list[Floats] = []
    rest = np.zeros(0)
    for chunk in chunks:
        voiced, state = sosfilt(filters, chunk[:, 0].astype(np.float64), zi=state)
        rest = np.concatenate([rest, voiced])
        whole = len(rest) // hop * hop
        powers.append((rest[:whole].reshape(-1, hop) ** 2).mean(axis=1))
        rest = rest[whole:]
    decibels = 10 * np.log10(np.concatenate([*powers, np.zeros(1)]) + 1e-9)
    quiet, loud = float(np.quantile(decibels, 0.05)), float(np.quantile(decibels, 0.95))
    # below 6 dB of range there is nothing but noise or nothing but speech: the level then tells nothing
    level = np.clip((decibels - quiet) / max(loud - quiet, 6.0), 0.0, 1.0)
    speech = level > 0.35 if spans is None else _inside(spans, start_s, len(level))
    return Voice(start_s=start_s, level=level, speech=speech)


def silence(start_s: float, end_s: float) -> Voice:
    """The voice of a clip without sound: nothing is known, so every step may be speech."""
    steps = max(1, round((end_s - start_s) * GRID_HZ))
    return Voice(start_s=start_s, level=np.zeros(steps), speech=np.ones(steps, dtype=np.bool_))


def _inside(spans: list[Span], start_s: float, steps: int) -> NDArray[np.bool_]:
    inside = np.zeros(steps, dtype=np.bool_)
    for span in spans:
        first, last = ((t - start_s) * GRID_HZ for t in (span.start_s, span.end_s))
        inside[max(0, round(first)) : max(0, round(last))] = True
    return inside
