"""A clip's sound: read, faded at both ends, brought to loudness, encoded, and measured again as it will be heard."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.artifacts import Probe
from stages.media.audio import read_audio
from stages.media.encode import AUDIO_RATE_HZ
from stages.media.loudness import Loudness, measure, normalise

if TYPE_CHECKING:
    import numpy as np
    from av.packet import Packet
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

_AAC_FRAME = 1024
_TOLERANCE_LU = 0.5
"""Correct once more when what comes out of AAC is further off than this; the promise is 1 LU."""
_PEAK_AFTER_AAC_DBTP = -1.0
"""The ceiling of EBU R128 s2 and the platforms for lossy delivery."""
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class LoudnessTarget:
    integrated_lufs: float
    true_peak_dbtp: float
    """Ceiling before encoding."""
    fade_s: float


@dataclass(frozen=True, slots=True)
class Soundtrack:
    packets: list[Packet[Any]]
    """AAC-LC, 48 kHz stereo; the first one starts 1,024 samples before 0, the encoder's priming."""
    loudness: Loudness | None
    """Measured on the decoded packets; None when the source has no sound."""
    notes: list[str] = field(default_factory=list)


def make_soundtrack(
    path: Path, probe: Probe, start_s: float, duration_s: float, target: LoudnessTarget, kbps: int
) -> Soundtrack:
    """The sound of [start_s, start_s + duration_s) of the source, exactly that long, at the target's loudness.

    A source without sound gives silence: players and platforms expect a track, and some refuse or mishandle a file
    without one.
    """
    import numpy as np

    total = round(duration_s * AUDIO_RATE_HZ)
    if probe.audio is None:
        silence = np.zeros((total, 2), np.float32)
        return Soundtrack(encode_aac(silence, kbps), None, ["the source has no sound: the clip's track is silent"])
    chunks = list(read_audio(path, probe, start_s, start_s + duration_s, rate_hz=AUDIO_RATE_HZ, channels=2))
    samples = np.concatenate(chunks) if chunks else np.zeros((0, 2), np.float32)
    samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    fade(samples, AUDIO_RATE_HZ, target.fade_s)
    found = measure(samples, AUDIO_RATE_HZ)
    aim, ceiling = target.integrated_lufs, target.true_peak_dbtp
    for attempt in range(1, _ATTEMPTS + 1):
        levelled, note = normalise(samples, AUDIO_RATE_HZ, aim, ceiling, found)
        packets = encode_aac(levelled, kbps)
        heard = measure(decode_aac(packets, total), AUDIO_RATE_HZ)
        off_lu = target.integrated_lufs - heard.integrated_lufs
        over_db = max(0.0, heard.true_peak_dbtp - _PEAK_AFTER_AAC_DBTP)
        if found.quiet or attempt == _ATTEMPTS or (abs(off_lu) <= _TOLERANCE_LU and not over_db):
            break
        aim, ceiling = aim + off_lu, ceiling - over_db
    notes = [note] if note else []
    if not found.quiet and abs(off_lu) > 2 * _TOLERANCE_LU:
        notes.append(
            f"loudness is {heard.integrated_lufs:.1f} LUFS instead of {target.integrated_lufs:g}:"
            " its peaks leave no room for more"
        )
    return Soundtrack(packets, heard, notes)


def fade(samples: Samples, rate_hz: int, seconds: float) -> None:
    """Raise and lower the ends of `samples` (n, 2) in place by half a cosine, so that the cuts do not click."""
    import numpy as np

    count = min(round(seconds * rate_hz), len(samples) // 2)
    if count < 1:
        return
    ramp = (0.5 - 0.5 * np.cos(np.pi * (np.arange(count) + 0.5) / count)).astype(np.float32)[:, None]
    samples[:count] *= ramp
    samples[-count:] *= ramp[::-1]


def encode_aac(samples: Samples, kbps: int) -> list[Packet[Any]]:
    """AAC-LC packets of float `samples` (n, 2) at 48 kHz; packet times count samples, the first is negative."""
    import av
    import numpy as np
    from av.audio.frame import AudioFrame

    context = av.CodecContext.create("aac", "w")
    context.sample_rate = AUDIO_RATE_HZ
    context.layout = "stereo"
    context.format = "fltp"
    context.bit_rate = kbps * 1000
    planar = np.ascontiguousarray(samples.T)
    packets: list[Packet[Any]] = []
    for at in range(0, planar.shape[1], _AAC_FRAME):
        part = np.ascontiguousarray(planar[:, at : at + _AAC_FRAME])
        frame = AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
        frame.sample_rate = AUDIO_RATE_HZ
        frame.pts = at
        packets += context.encode(frame)
    return packets + context.encode(None)


def decode_aac(packets: list[Packet[Any]], total: int) -> Samples:
    """What a player makes of `packets`: `total` samples (n, 2) from time 0 on."""
    import av
    import numpy as np

    context = av.CodecContext.create("aac", "r")
    context.sample_rate = AUDIO_RATE_HZ
    context.layout = "stereo"
    context.extradata = _ADTS_FREE_CONFIG
    frames = [f.to_ndarray() for packet in packets for f in context.decode(packet)]
    frames += [f.to_ndarray() for f in context.decode(None)]
    if not frames:
        return np.zeros((0, 2), np.float32)
    planar = np.concatenate(frames, axis=1)
    return np.ascontiguousarray(planar[:, _AAC_FRAME : _AAC_FRAME + total].T, np.float32)


_ADTS_FREE_CONFIG = bytes([0x11, 0x90])
"""AudioSpecificConfig (ISO 14496-3) for AAC-LC, 48 kHz, two channels: raw packets do not carry it."""
