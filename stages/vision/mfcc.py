"""Mel-frequency cepstra as LR-ASD was trained on: those of the python_speech_features package with its defaults.

25 ms rectangular windows every 10 ms of pre-emphasised 16-bit samples, 512-point spectrum, 26 triangular mel filters
from 0 to 8 kHz, orthonormal DCT-II, lifter 22, the first coefficient replaced by the log of the frame's energy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

RATE_HZ = 16000
STEP_HZ = 100
COEFFICIENTS = 13
_WINDOW, _HOP, _FFT, _FILTERS, _LIFTER, _PREEMPHASIS = 400, 160, 512, 26, 22, 0.97


def mfcc(samples: Floats) -> Floats:
    """(steps, 13) at STEP_HZ for mono `samples` (n) at RATE_HZ, full scale 1; the end is padded with silence."""
    from scipy.fft import dct

    signal = np.asarray(samples, dtype=np.float64) * 32768.0
    if len(signal) == 0:
        return np.zeros((0, COEFFICIENTS), np.float32)
    signal = np.append(signal[0], signal[1:] - _PREEMPHASIS * signal[:-1])
    steps = 1 + max(0, -(-(len(signal) - _WINDOW) // _HOP))
    signal = np.append(signal, np.zeros(max(0, (steps - 1) * _HOP + _WINDOW - len(signal))))
    frames = np.lib.stride_tricks.sliding_window_view(signal, _WINDOW)[::_HOP][:steps]
    power = np.abs(np.fft.rfft(frames, _FFT)) ** 2 / _FFT
    tiny = np.finfo(np.float64).eps
    energy = np.maximum(power.sum(axis=1), tiny)
    bands = np.log(np.maximum(power @ _filters().T, tiny))
    cepstra = np.asarray(dct(bands, type=2, axis=1, norm="ortho"), dtype=np.float64)[:, :COEFFICIENTS]
    cepstra *= 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / _LIFTER)
    cepstra[:, 0] = np.log(energy)
    return cepstra.astype(np.float32)


def _filters() -> NDArray[np.float64]:
    """(26, 257) triangular filters, equally spaced on the mel scale."""
    top = 2595 * np.log10(1 + RATE_HZ / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, _FILTERS + 2) / 2595) - 1)
    edges = np.floor((_FFT + 1) * hertz / RATE_HZ)
    bins = np.arange(_FFT // 2 + 1)
    bank = np.zeros((_FILTERS, len(bins)))
    for row, (low, peak, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        rising, falling = (bins >= low) & (bins < peak), (bins >= peak) & (bins < high)
        bank[row, rising] = (bins[rising] - low) / (peak - low)
        bank[row, falling] = (high - bins[falling]) / (high - peak)
    return bank
