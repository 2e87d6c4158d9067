"""Small videos around given sound, as job folders that a stage can run on."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from stages.folder import JobFolder
from stages.media.probe import probe_media

Samples = NDArray[np.float32]
RATE_HZ = 16_000
SHARED = Path(__file__).parents[3].parent / "shared"
JFK = SHARED / "media" / "jfk.flac"
JFK_WORDS = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"


def job_folder(root: Path, sound: Samples | None, *, seconds: float | None = None, fps: int = 5) -> JobFolder:
    """A job whose source is a grey 64x48 picture with `sound` (mono, 16 kHz) as FLAC, probed."""
    folder = JobFolder(root / "jobs" / "job", root / "output" / "job")
    folder.root.mkdir(parents=True)
    length_s = seconds if seconds is not None else (0 if sound is None else len(sound) / RATE_HZ)
    source = folder.root / "source.mkv"
    with av.open(str(source), "w") as out:
        video: Any = out.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "g": str(fps * 2)})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio: Any = None if sound is None else out.add_stream("flac", rate=RATE_HZ, layout="mono")
        grey = np.full((48, 64, 3), 128, np.uint8)
        for second in range(int(np.ceil(length_s))):
            for i in range(second * fps, min((second + 1) * fps, round(length_s * fps))):
                frame = av.VideoFrame.from_ndarray(grey, "rgb24")
                frame.pts, frame.time_base = i, Fraction(1, fps)
                out.mux(video.encode(frame))
            if sound is not None and len(part := sound[second * RATE_HZ : (second + 1) * RATE_HZ]):
                pcm = (np.clip(part, -1, 1) * 32767).astype(np.int16)
                block = av.AudioFrame.from_ndarray(pcm[None], "s16", "mono")
                block.sample_rate, block.pts = RATE_HZ, second * RATE_HZ
                block.time_base = Fraction(1, RATE_HZ)
                out.mux(audio.encode(block))
        out.mux(video.encode(None))
        if audio is not None:
            out.mux(audio.encode(None))
    folder.save(folder.root / "probe.json", probe_media(source))
    return folder


def load(path: Path) -> Samples:
    """Any sound file as mono 16 kHz float32."""
    resampler = av.AudioResampler("flt", "mono", RATE_HZ)
    parts = []
    with av.open(str(path)) as source:
        for frame in source.decode(audio=0):
            parts += [out.to_ndarray()[0] for out in resampler.resample(frame)]
    parts += [out.to_ndarray()[0] for out in resampler.resample(None)]
    return np.concatenate(parts).astype(np.float32)


def read_wav(path: Path) -> Samples:
    with wave.open(str(path)) as source:
        return np.frombuffer(source.readframes(source.getnframes()), np.int16).astype(np.float32) / np.float32(32768)


def word_errors(said: str, heard: str) -> tuple[int, int]:
    """(substitutions + insertions + deletions, words said): word error rate is their quotient."""
    reference, hypothesis = said.split(), heard.split()
    row = list(range(len(hypothesis) + 1))
    for i, word in enumerate(reference, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(hypothesis, 1):
            before, row[j] = row[j], min(before + (word != other), row[j] + 1, row[j - 1] + 1)
    return row[-1], len(reference)
