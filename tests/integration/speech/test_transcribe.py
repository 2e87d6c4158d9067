"""The stage end to end: real speech through PocketSphinx, every Whisper path, what is said about each."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faster_whisper
import msgspec
import numpy as np
import pytest

from bus.events import JobOptions, JobSource
from stages import transcribe
from stages.artifacts import Transcript
from stages.base import Task
from stages.errors import Misconfigured
from stages.folder import JobFolder
from stages.speech import checkpoint, whisper
from stages.speech.recogniser import Heard
from stages.speech.sphinx import SphinxRecogniser
from stages.speech.vad import Piece
from tests.integration.speech.kit import JFK_WORDS, RATE_HZ, Samples, job_folder, word_errors
from tests.integration.speech.scripted_whisper import SENTENCES


def task(language: str | None = None) -> Task:
    origin = JobSource(kind="file", location="/talk.mkv", name="talk.mkv")
    return Task(stage="transcribe", job="job", origin=origin, options=JobOptions(language=language))


class Reports(list[float]):
    def __call__(self, done: float, note: str | None = None) -> None:
        assert 0 <= done <= 1
        assert not self or done >= self[-1]
        self.append(done)


def run(
    folder: JobFolder, options: transcribe.Options, language: str | None = None, report: Reports | None = None
) -> Transcript:
    result = transcribe.run(task(language), folder, options, Reports() if report is None else report)
    transcript = folder.transcript()
    assert result.words == len(transcript.words)
    assert (result.model, result.rough, result.notes) == (transcript.model, transcript.rough, transcript.notes)
    duration_s = folder.probe().duration_s
    for word in transcript.words:
        assert 0 <= word.start_s < word.end_s <= duration_s
    for a, b in zip(transcript.words, transcript.words[1:], strict=False):
        assert a.end_s <= b.start_s
    assert not (folder.root / checkpoint.NAME).exists()
    return transcript


def text(transcript: Transcript) -> str:
    return " ".join(w.text for w in transcript.words)


def test_real_speech_through_pocketsphinx(tmp_path: Path, real_speech: Samples) -> None:
    reports = Reports()
    found = run(job_folder(tmp_path, real_speech), transcribe.Options(), report=reports)
    errors, said = word_errors(JFK_WORDS, text(found).lower())
    assert errors / said <= 0.35
    assert (found.model, found.device, found.language, found.rough) == ("pocketsphinx-en-us", "cpu", "en", True)
    assert "appliance models pull" in found.notes[0]
    assert len(found.speech) >= 3
    assert reports[-1] == 1.0
    # His breath groups become sentences: the pause before "ask not" lies at 2.4 to 3.2 s.
    borders = [found.words[s.first].start_s for s in found.sentences]
    assert any(2.9 <= border <= 3.5 for border in borders)


def test_words_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, speech_like: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SphinxRecogniser, "group_s", 3.0)
    folder = job_folder(tmp_path, speech_like)
    one = run(folder, transcribe.Options(model="pocketsphinx", threads=1))
    three = run(folder, transcribe.Options(model="pocketsphinx", threads=3))
    assert one == three
    assert one.speech


@pytest.mark.parametrize("batch_size", [1, 3])
def test_whisper_is_taken_when_its_model_is_there(
    tmp_path: Path, whisper_models: Path, speech_like: Samples, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whisper.WhisperRecogniser, "group_s", 5.0)
    batches: list[int] = []
    together = whisper.WhisperRecogniser._together

    def counted(self: whisper.WhisperRecogniser, batch: list[Piece]) -> Iterator[Heard]:
        batches.append(len(batch))
        return together(self, batch)

    monkeypatch.setattr(whisper.WhisperRecogniser, "_together", counted)
    sound = np.concatenate([speech_like] * 2)
    folder = job_folder(tmp_path, sound)
    found = run(folder, transcribe.Options(models_dir=str(whisper_models), batch_size=batch_size))
    assert (found.model, found.language, found.rough) == ("whisper-tiny", "en", False)
    assert found.notes == []
    assert bool(batches) is (batch_size > 1)
    said = SENTENCES.split()
    groups = len(found.words) // len(said)
    assert groups >= 2
    # The last window may be too short for the whole script.
    assert [w.text for w in found.words] == (said * (groups + 1))[: len(found.words)]
    assert all(w.confidence > 0.9 for w in found.words)
    sentences = [" ".join(w.text for w in found.words[s.first : s.last]) for s in found.sentences]
    assert {"Hello there, this is a talk.", "Do you hear me?"} <= set(sentences)
    # Each window says its words once, so each copy of the script lies in its own stretch of the source.
    for n in range(groups):
        part = found.words[n * len(said) : (n + 1) * len(said)]
        assert part[-1].end_s - part[0].start_s <= 5.5


def test_a_card_that_does_not_work_is_told_and_the_cpu_does_it(
    tmp_path: Path, whisper_models: Path, speech_like: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = faster_whisper.WhisperModel

    def without_cublas(folder: str, *, device: str, **more: Any) -> Any:
        if device == "cuda":
            raise RuntimeError("Library libcublas.so.12 is not found or cannot be loaded")
        return real(folder, device=device, **more)

    monkeypatch.setattr(whisper, "cuda_cards", lambda: 1)
    monkeypatch.setattr(faster_whisper, "WhisperModel", without_cublas)
    folder = job_folder(tmp_path, speech_like)
    found = run(folder, transcribe.Options(models_dir=str(whisper_models)))
    assert found.device == "cpu"
    assert found.words
    assert found.notes == [
        "the card cannot be used, words come from the CPU: Library libcublas.so.12 is not found or cannot be loaded"
    ]
    with pytest.raises(Misconfigured, match="cannot be loaded on cuda as float16"):
        run(folder, transcribe.Options(models_dir=str(whisper_models), device="cuda"))


def test_the_language_of_the_job_is_the_language_of_the_model(
    tmp_path: Path, whisper_models: Path, speech_like: Samples
) -> None:
    folder = job_folder(tmp_path, speech_like)
    assert run(folder, transcribe.Options(models_dir=str(whisper_models)), "de").language == "de"
    with pytest.raises(Misconfigured, match="does not know the language 'xx'"):
        run(folder, transcribe.Options(models_dir=str(whisper_models)), "xx")


def test_a_damaged_model_is_a_plain_error(tmp_path: Path, whisper_models: Path, speech_like: Samples) -> None:
    broken = tmp_path / "models" / "faster-whisper-tiny"
    shutil.copytree(whisper_models / "faster-whisper-tiny", broken)
    (broken / "model.bin").write_bytes((broken / "model.bin").read_bytes()[:1000])
    with pytest.raises(Misconfigured, match="cannot be loaded on cpu as int8") as caught:
        run(job_folder(tmp_path, speech_like), transcribe.Options(models_dir=str(broken.parent)))
    assert caught.value.code == "model-unusable"


def test_a_killed_transcription_goes_on_where_it_was(
    tmp_path: Path, whisper_models: Path, speech_like: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whisper.WhisperRecogniser, "group_s", 3.0)
    folder = job_folder(tmp_path, np.concatenate([speech_like] * 3))
    options = transcribe.Options(models_dir=str(whisper_models), checkpoint_s=0.0)
    heard: list[float] = []
    alone = whisper.WhisperRecogniser._alone

    def counted(self: whisper.WhisperRecogniser, piece: Piece) -> Heard:
        heard.append(piece.start_s)
        return alone(self, piece)

    monkeypatch.setattr(whisper.WhisperRecogniser, "_alone", counted)
    whole = run(folder, options)
    all_of_it = list(heard)
    heard.clear()

    class Killed(BaseException):
        pass

    def killer(done: float, note: str | None = None) -> None:
        if len(heard) == 4:
            raise Killed

    with pytest.raises(Killed):
        transcribe.run(task(), folder, options, killer)
    assert (folder.root / checkpoint.NAME).exists()
    heard.clear()
    assert run(folder, options) == whole
    # It was killed while group 4 was reported, which by then was stored (a killed one is heard again at worst).
    assert heard in (all_of_it[3:], all_of_it[4:])


def test_a_slow_recogniser_is_seen_to_be_alive_up_to_its_limit() -> None:
    seen = threading.Semaphore(0)
    reports: list[float] = []

    def report(done: float, note: str | None = None) -> None:
        reports.append(done)
        seen.release()

    progress = transcribe._Progress(report, 100.0)
    progress.reach(25.0)
    with progress.ticking(limit_s=60.0, every_s=0.01):
        for _ in range(5):
            assert seen.acquire(timeout=10)
    assert set(reports) == {0.25}
    reports.clear()
    with progress.ticking(limit_s=0.0, every_s=0.01):
        (ticker,) = [t for t in threading.enumerate() if t.name == "progress"]
        ticker.join(10)  # it gives up by itself
        assert not ticker.is_alive()
    assert reports == []


def test_a_source_without_sound_has_an_empty_transcript(tmp_path: Path) -> None:
    found = run(job_folder(tmp_path, None, seconds=2), transcribe.Options())
    assert (found.words, found.speech, found.rough) == ([], [], False)
    assert found.notes == ["the source has no sound: nothing to transcribe"]


def test_noise_is_not_speech(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 0.01, 4 * RATE_HZ).astype(np.float32)
    found = run(job_folder(tmp_path, noise), transcribe.Options())
    assert (found.words, found.speech) == ([], [])
    assert "no speech was heard" in found.notes


def test_another_language_gets_no_english_words(tmp_path: Path, speech_like: Samples) -> None:
    found = run(job_folder(tmp_path, speech_like), transcribe.Options(), "de")
    assert (found.words, found.language, found.model) == ([], "de", "none")
    assert found.speech
    assert "knows only English" in found.notes[0]


def test_options_survive_the_way_to_the_worker() -> None:
    options = transcribe.Options(model="whisper-small", device="cuda", batch_size=4)
    assert msgspec.json.decode(msgspec.json.encode(options), type=transcribe.Options) == options
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"batch_size": 1000}', type=transcribe.Options)
