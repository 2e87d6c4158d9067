"""Which recogniser is taken, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.base import Device
from stages.errors import Misconfigured
from stages.speech import whisper
from stages.speech.choice import Wish, choose, models_dir
from stages.speech.sphinx import SphinxRecogniser, spoken
from stages.speech.whisper import WhisperRecogniser


def wish(folder: Path, model: str = "auto", device: Device = "cpu", language: str | None = None) -> Wish:
    return Wish(model, device, "auto", 5, 0, 2, language, folder)


def add_model(folder: Path, name: str, *, without: str = "") -> None:
    (folder / name).mkdir(parents=True)
    for file in {*whisper.FILES, "vocabulary.txt"} - {without}:
        (folder / name / file).write_bytes(b"x")


def test_without_a_model_pocketsphinx_says_how_to_get_one(tmp_path: Path) -> None:
    found = choose(wish(tmp_path))
    assert isinstance(found, SphinxRecogniser)
    assert found.rough
    assert "appliance models pull whisper-small" in found.notes[0]


@pytest.mark.parametrize(
    ("present", "best"),
    [
        (["faster-whisper-tiny", "faster-whisper-small", "faster-whisper-large-v3"], "whisper-small"),
        (["faster-whisper-tiny", "faster-whisper-base.en"], "whisper-base.en"),
        (["faster-distil-whisper-large-v3", "faster-whisper-medium"], "whisper-medium"),
        (["faster-whisper-large-v3", "faster-whisper-large-v3-turbo"], "whisper-large-v3-turbo"),
    ],
)
def test_auto_takes_the_best_model_for_a_cpu(tmp_path: Path, present: list[str], best: str) -> None:
    for name in present:
        add_model(tmp_path, name)
    found = choose(wish(tmp_path))
    assert isinstance(found, WhisperRecogniser)
    assert found.model == best
    assert not found.rough


def test_on_a_card_auto_takes_turbo_as_float16_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whisper, "cuda_cards", lambda: 1)
    for name in ("faster-whisper-small", "faster-whisper-large-v3", "faster-whisper-large-v3-turbo"):
        add_model(tmp_path, name)
    found = choose(wish(tmp_path, device="auto"))
    assert isinstance(found, WhisperRecogniser)
    assert (found.model, found.device) == ("whisper-large-v3-turbo", "cuda")
    assert (found.settings.compute_type, found.settings.batch_size) == ("float16", 8)


def test_auto_passes_over_an_incomplete_model(tmp_path: Path) -> None:
    add_model(tmp_path, "faster-whisper-small", without="tokenizer.json")
    assert isinstance(choose(wish(tmp_path)), SphinxRecogniser)


@pytest.mark.parametrize("name", ["whisper-tiny", "tiny", "faster-whisper-tiny"])
def test_a_model_is_found_by_its_short_names_and_its_path(tmp_path: Path, name: str) -> None:
    add_model(tmp_path, "faster-whisper-tiny")
    assert choose(wish(tmp_path, name)).model == "whisper-tiny"
    assert choose(wish(Path("/nowhere"), str(tmp_path / "faster-whisper-tiny"))).model == "whisper-tiny"


def test_a_missing_model_that_was_asked_for_is_an_error_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="appliance models pull whisper-small") as caught:
        choose(wish(tmp_path, "whisper-small"))
    assert caught.value.code == "model-missing"


def test_an_incomplete_model_that_was_asked_for_names_the_file(tmp_path: Path) -> None:
    add_model(tmp_path, "faster-whisper-small", without="tokenizer.json")
    with pytest.raises(Misconfigured, match=r"tokenizer\.json missing"):
        choose(wish(tmp_path, "whisper-small"))


def test_cuda_without_a_card_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whisper, "cuda_cards", lambda: 0)
    add_model(tmp_path, "faster-whisper-small")
    with pytest.raises(Misconfigured, match="no CUDA card"):
        choose(wish(tmp_path, device="cuda"))


def test_pocketsphinx_on_cuda_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="CPU only"):
        choose(wish(tmp_path, "pocketsphinx", "cuda"))


def test_the_models_folder_comes_from_the_options_or_the_data_folder(tmp_path: Path) -> None:
    job = tmp_path / "jobs" / "01j"
    assert models_dir("", job) == tmp_path / "models"
    assert models_dir("/mine", job) == Path("/mine")


@pytest.mark.parametrize(
    ("token", "word"),
    [("<s>", ""), ("<sil>", ""), ("[NOISE]", ""), ("++BREATH++", ""), ("and(2)", "and"), ("i", "I"), ("i'm", "I'm"),
     ("is", "is")],
)  # fmt: skip
def test_decoder_tokens_become_words(token: str, word: str) -> None:
    assert spoken(token) == word
