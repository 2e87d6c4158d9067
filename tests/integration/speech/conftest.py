"""Shared by the speech tests: the scripted Whisper, and real speech where it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.integration.speech import kit, scripted_whisper


@pytest.fixture(scope="session")
def whisper_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with one (scripted) Whisper model, `faster-whisper-tiny`."""
    folder = tmp_path_factory.mktemp("models")
    scripted_whisper.build(folder / "faster-whisper-tiny")
    return folder


@pytest.fixture(scope="session")
def real_speech() -> kit.Samples:
    """11 s of real speech, mono 16 kHz."""
    if not kit.JFK.exists():
        pytest.skip("no real speech here: shared/media/jfk.flac is not beside this repository")
    return kit.load(kit.JFK)


@pytest.fixture(scope="session")
def speech_like() -> kit.Samples:
    """8 s with two stretches that the voice-activity detector takes for speech, the same samples on every machine."""
    from tests.media import speech

    def said(text: str) -> kit.Samples:
        high = speech.babble(text, 0).samples
        return np.asarray(high[: len(high) // 3 * 3].reshape(-1, 3).mean(axis=1), np.float32)  # 48 kHz to 16 kHz

    parts = [said("Most people believe that a good bridge is a strong bridge."), np.zeros(16_000, np.float32)]
    parts += [said("A bridge that cannot bend will break, and that is all."), np.zeros(8_000, np.float32)]
    return np.concatenate(parts)
