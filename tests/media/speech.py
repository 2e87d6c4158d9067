"""Speech with exact times: espeak-ng through its library when it is on the machine, else a speech-like signal.

The fallback has syllables, formants, pauses and exact word times, which is enough for everything but recognition.
"""

from __future__ import annotations

import ctypes
import functools
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 48_000
Samples = NDArray[np.float32]
VOICES = ("en-us", "en-us+f3")
"""One a person."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """One sentence: `samples` mono at `RATE_HZ`, words as (text, start_s, end_s) from its beginning."""

    samples: Samples
    words: tuple[tuple[str, float, float], ...]
    real: bool


def say(text: str, person: int) -> Spoken:
    """Speak one ASCII sentence in the voice of `person` (0 or 1), silence at its end trimmed."""
    return _espeak(text, person) if have_espeak() else babble(text, person)


@functools.cache
def have_espeak() -> bool:
    """Whether espeak-ng's library is on this machine (`apt-get install espeak-ng`)."""
    return _library() is not None


class _Event(ctypes.Structure):
    """`espeak_EVENT` of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_WORD, _END = 1, 5
_SYNCHRONOUS = 2


@functools.cache
def _library() -> tuple[Any, int] | None:
    try:
        library = ctypes.CDLL("libespeak-ng.so.1")
    except OSError:
        return None
    rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, None, 0)
    return (library, rate_hz) if rate_hz > 0 else None


def _espeak(text: str, person: int) -> Spoken:
    found = _library()
    assert found is not None
    library, rate_hz = found
    pieces: list[NDArray[np.int16]] = []
    events: list[tuple[int, int, int]] = []

    def receive(wave: Any, count: int, event: Any) -> int:
        if wave and count:
            pieces.append(np.ctypeslib.as_array(wave, (count,)).copy())
        at = 0
        while event[at].type:
            events.append((event[at].type, event[at].text_position - 1, event[at].sample))
            at += 1
        return 0

    callback = _Callback(receive)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName(VOICES[person].encode())
    data = text.encode("ascii")
    library.espeak_Synth(data, len(data) + 1, 0, 1, 0, 1, None, None)
    library.espeak_Synchronize()
    raw: Samples = (np.concatenate(pieces) / 32768).astype(np.float32)

    begins: dict[int, int] = {}
    ends: list[int] = []
    for kind, position, sample in events:
        if kind == _WORD and position >= 0:
            begins.setdefault(len(text[: position + 1].split()) - 1, sample)
        elif kind == _END:
            ends.append(sample)
    words: list[tuple[str, float, float]] = []
    tokens = text.split()
    spoken = sorted(begins.items())
    for number, (token, begin) in enumerate(spoken):
        following, limit = spoken[number + 1] if number + 1 < len(spoken) else (len(tokens), len(raw))
        limit = min([limit, *(e for e in ends if e > begin)])
        loud = np.flatnonzero(np.abs(raw[begin:limit]) > 0.01)
        end = begin + int(loud[-1]) + 1 if len(loud) else limit
        words += _shared_out(tokens[token:following], begin / rate_hz, end / rate_hz)
    last = round(words[-1][2] * rate_hz)
    return Spoken(resample(raw[:last], rate_hz, RATE_HZ), tuple(words), real=True)


def _shared_out(tokens: list[str], start_s: float, end_s: float) -> list[tuple[str, float, float]]:
    """espeak runs short words together ("that a"): share their time by length."""
    letters = [len(t.strip(".,?!")) for t in tokens]
    words, at_s = [], start_s
    for token, count in zip(tokens, letters, strict=True):
        until_s = at_s + (end_s - start_s) * count / sum(letters)
        words.append((token.strip(".,?!"), at_s, until_s))
        at_s = until_s
    return words


def resample(samples: Samples, rate_hz: int, to_hz: int) -> Samples:
    """Mono samples at another rate, same length in time."""
    import av

    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="fltp", layout="mono")
    frame.sample_rate = rate_hz
    turn = av.AudioResampler(format="fltp", layout="mono", rate=to_hz)
    pieces = [piece.to_ndarray()[0] for piece in [*turn.resample(frame), *turn.resample(None)]]
    return np.concatenate(pieces).astype(np.float32)


def babble(text: str, person: int) -> Spoken:
    """Syllables of a pulse train through two formants, a hiss for each consonant, one word after the other.

    The same samples on every machine and at every call, which espeak-ng does not promise.
    """
    from scipy.signal import lfilter

    noise = np.random.default_rng(zlib.crc32(text.encode()) + person)
    pieces: list[Samples] = []
    words: list[tuple[str, float, float]] = []
    at = 0
    for token in text.split():
        begin = at
        for _ in range(max(1, round(len(token) / 3))):
            hiss = noise.normal(0, 0.05, int(RATE_HZ * 0.05)).astype(np.float32)
            n = int(RATE_HZ * noise.uniform(0.1, 0.17))
            pitch_hz = (115.0, 205.0)[person] * noise.uniform(0.92, 1.1)
            pulses = np.zeros(n, np.float32)
            pulses[:: max(1, int(RATE_HZ / pitch_hz))] = 1.0
            for formant_hz in (noise.uniform(300, 800), noise.uniform(900, 2200)):
                radius = 0.985
                poles = [1.0, -2 * radius * np.cos(2 * np.pi * formant_hz / RATE_HZ), radius**2]
                pulses = np.asarray(lfilter([1.0 - radius], poles, pulses), np.float32)
            vowel = pulses * np.hanning(n).astype(np.float32)
            vowel *= 0.35 / max(1e-6, float(np.abs(vowel).max()))
            pieces += [hiss, vowel.astype(np.float32)]
            at += len(hiss) + len(vowel)
        words.append((token.strip(".,?!"), begin / RATE_HZ, at / RATE_HZ))
        pause = np.zeros(int(RATE_HZ * (0.2 if token[-1] in ",;" else 0.04)), np.float32)
        pieces.append(pause)
        at += len(pause)
    samples = np.concatenate(pieces)
    return Spoken(samples[: round(words[-1][2] * RATE_HZ)], tuple(words), real=False)
