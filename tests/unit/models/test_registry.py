"""The registry and what lies on the box, without a network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.errors import ModelDamaged, ModelError, UnknownModel
from appliance.models import MANIFEST, REGISTRY, add, find, remove, state
from stages.vision.detectors import YOLO_FILE, YUNET_FILE

SHARED = Path(__file__).parents[3].parent / "shared" / "models"


def whisper(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("config.json", "model.bin", "tokenizer.json", "vocabulary.txt"):
        (folder / name).write_text(name * 100)
    return folder


def test_every_model_is_well_described() -> None:
    assert len({model.name for model in REGISTRY}) == len({model.target for model in REGISTRY}) == len(REGISTRY)
    for model in REGISTRY:
        assert re.match(r"(download|transcribe|moments|faces|crop|cut): ", model.use), f"{model.name}: name its stage"
        assert "without" in model.use, f"{model.name}: say what happens without it"
        assert model.url is None or re.fullmatch("[0-9a-f]{64}", model.sha256 or ""), f"{model.name}: needs a checksum"
        assert model.url is None or model.url.startswith("https://")


def test_files_are_where_the_stages_look() -> None:
    assert find("yunet").target == YUNET_FILE
    assert find("yolo-face").target == f"{YOLO_FILE}.pt"


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownModel, match=r"'yunett'.*yunet, lr-asd") as raised:
        find("yunett")
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("name", ["yunet", "lr-asd"])
def test_the_published_sums_are_those_of_the_real_files(name: str, tmp_path: Path) -> None:
    model = find(name)
    source = SHARED / model.target
    if not source.is_file():
        pytest.skip(f"{source} is not on this machine")
    assert add(model, source, tmp_path / "models").read_bytes() == source.read_bytes()
    assert state(model, tmp_path / "models", sums=True).detail == "checksum matches"


def test_a_file_with_another_sum_is_not_added(tmp_path: Path) -> None:
    model = find("yunet")
    (tmp_path / "short").write_bytes(b"x")
    (tmp_path / "other").write_bytes(b"x" * model.size_bytes)
    with pytest.raises(ModelDamaged, match="has 1 bytes instead of 232589"):
        add(model, tmp_path / "short", tmp_path / "models")
    with pytest.raises(ModelDamaged, match=r"SHA-256 .* instead of 8f2383e4"):
        add(model, tmp_path / "other", tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_folder_is_added_with_its_sums_and_watched(tmp_path: Path) -> None:
    model, folder = find("whisper-tiny"), tmp_path / "models"
    assert state(model, folder).state == "absent"
    path = add(model, whisper(tmp_path / "stick"), folder)
    assert state(model, folder, sums=True).state == "present"
    (path / "model.bin").write_text("x" * 900)
    assert (state(model, folder).state, state(model, folder, sums=True).state) == ("present", "damaged")
    (path / "model.bin").unlink()
    assert "model.bin is missing" in state(model, folder).detail
    (path / MANIFEST).write_text("{")
    assert state(model, folder).state == "damaged"
    assert [remove(model, folder), remove(model, folder)] == [True, False]
    assert list(folder.iterdir()) == []


def test_a_folder_put_there_by_hand_is_unchecked_and_can_be_recorded(tmp_path: Path) -> None:
    model = find("whisper-tiny")
    path = whisper(tmp_path / model.target)
    assert state(model, tmp_path).state == "unchecked"
    add(model, path, tmp_path)
    assert state(model, tmp_path, sums=True).state == "present"
    (path / MANIFEST).unlink()
    (path / "tokenizer.json").unlink()
    assert "without tokenizer.json" in state(model, tmp_path).detail


def test_what_is_no_model_is_not_added(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    for name, source in (("yunet", "folder"), ("whisper-tiny", "file"), ("whisper-tiny", "folder")):
        with pytest.raises(ModelError):
            add(find(name), tmp_path / source, tmp_path / "models")
    assert state(find("yunet"), tmp_path / "models").state == "absent"
