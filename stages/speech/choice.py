"""Which recogniser does the work: what was asked for, what lies on the box, and a sentence about every fallback."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from stages.base import Device
from stages.errors import Misconfigured
from stages.speech import whisper
from stages.speech.recogniser import Recogniser
from stages.speech.sphinx import MODEL as SPHINX
from stages.speech.sphinx import SphinxRecogniser

_PREFIXES = ("", "faster-", "faster-whisper-", "whisper-")
_CPU_ORDER = ("small", "distil-small", "base", "tiny", "medium", "turbo", "distil-large", "large")
_CUDA_ORDER = ("turbo", "distil-large", "large", "medium", "small", "distil-small", "base", "tiny")
"""Best first: on a CPU the largest that keeps near real time on few cores, on a card the best for its speed."""
_MAX_THREADS = 8
"""More gain little, and the box has other work."""
HOW_TO_GET = "run `appliance models pull whisper-small` for a real transcript"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the configuration and the job ask for. `model`: `auto`, `pocketsphinx`, a name or a path."""

    model: str
    device: Device
    compute_type: str
    beam_size: int
    batch_size: int
    threads: int
    language: str | None
    models_dir: Path


def models_dir(configured: str, job_root: Path) -> Path:
    """Where models lie: the configured folder, else `models` beside the jobs folder."""
    return Path(configured) if configured else job_root.parent.parent / "models"


def choose(wish: Wish) -> Recogniser:
    """The recogniser to enter. Raises `Misconfigured` when what was asked for by name is not on the box."""
    if wish.model == "pocketsphinx":
        return _sphinx(wish, "PocketSphinx was asked for: words and times are rough")
    found = _models(wish.models_dir) if wish.model == "auto" else [_named(wish)]
    if not found:
        return _sphinx(wish, f"no Whisper model in {wish.models_dir}: rough words from PocketSphinx; {HOW_TO_GET}")
    device = _device(wish.device)
    return _whisper(_best(found, device), device, wish)


def _device(asked: Device) -> str:
    if asked == "cpu":
        return "cpu"
    if whisper.cuda_cards() > 0:
        return "cuda"
    if asked == "cuda":
        raise Misconfigured(
            "stages.transcribe.device is cuda, but no CUDA card can be used: check the driver and the CUDA libraries, "
            "or set it to auto",
            "no-cuda",
        )
    return "cpu"


def _named(wish: Wish) -> Path:
    given = Path(wish.model)
    folders = [given] if given.is_absolute() else [wish.models_dir / (p + wish.model) for p in _PREFIXES]
    if not given.is_absolute() and len(given.parts) > 1:
        folders.append(given)
    for folder in folders:
        if folder.is_dir():
            whisper.complain_unless_complete(folder)
            return folder
    raise Misconfigured(
        f"the speech model {wish.model!r} is not on this box (looked in {folders[0].parent}): "
        f"fetch it with `appliance models pull {wish.model}` or set stages.transcribe.model to auto",
        "model-missing",
    )


def _models(folder: Path) -> list[Path]:
    """Complete Whisper models in `folder`."""
    return [p for p in folder.glob("*whisper-*") if whisper.is_model(p)] if folder.is_dir() else []


def _best(found: list[Path], device: str) -> Path:
    if len(found) == 1:
        return found[0]
    order = _CUDA_ORDER if device == "cuda" else _CPU_ORDER

    def rank(path: Path) -> tuple[int, str]:
        name = path.name.split("whisper-", 1)[1]
        matches = [i for i, size in enumerate(order) if size in name]
        # "distil-small" contains "small": the longest match is the one that is meant.
        best = max(matches, key=lambda i: len(order[i]), default=len(order))
        return best, path.name

    return min(found, key=rank)


def _whisper(folder: Path, device: str, wish: Wish) -> Recogniser:
    settings = _settings(wish, device)
    if device == "cuda" and wish.device == "auto":
        settings = replace(settings, cpu_instead=replace(_settings(wish, "cpu"), compute_type="int8"))
    return whisper.WhisperRecogniser(folder, settings)


def _settings(wish: Wish, device: str) -> whisper.WhisperSettings:
    on_card = device == "cuda"
    return whisper.WhisperSettings(
        device=device,
        compute_type=wish.compute_type if wish.compute_type != "auto" else "float16" if on_card else "int8",
        beam_size=wish.beam_size,
        batch_size=wish.batch_size or (8 if on_card else 1),
        threads=wish.threads or min(len(os.sched_getaffinity(0)), _MAX_THREADS),
        language=wish.language,
    )


def _sphinx(wish: Wish, note: str) -> Recogniser:
    if wish.device == "cuda":
        raise Misconfigured(
            f"stages.transcribe.device is cuda, but PocketSphinx runs on the CPU only: {HOW_TO_GET}", "no-cuda-model"
        )
    recogniser = SphinxRecogniser(wish.threads or min(len(os.sched_getaffinity(0)), _MAX_THREADS))
    recogniser.model = SPHINX
    recogniser.notes.append(note)
    return recogniser
