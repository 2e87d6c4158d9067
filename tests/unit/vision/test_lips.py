"""LR-ASD's surroundings: its weights without PyTorch, its sound, its pictures; and the network itself where it lies."""

from __future__ import annotations

import collections
import io
import os
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.artifacts import Box, Span
from stages.errors import Misconfigured
from stages.vision import lrasd
from stages.vision.attribution import Attribution
from stages.vision.lips import CONTEXT, MAX_FACES, WINDOW, LipReader
from stages.vision.lrasd import LrAsd
from stages.vision.mfcc import mfcc
from stages.vision.weights import read_state
from tests.media import scenes, speech

SHARED_MODELS = Path(__file__).parents[3].parent / "shared" / "models"
WEIGHTS = SHARED_MODELS / lrasd.WEIGHTS_FILE
needs_weights = pytest.mark.skipif(not WEIGHTS.is_file(), reason="LR-ASD's weights are not at hand")

# python_speech_features 0.6, mfcc(samples * 32768, 16000, numcep=13)[20], for the two tones below
REFERENCE = [
    20.171,
    14.965,
    -14.983,
    -20.404,
    -6.012,
    -10.084,
    -38.116,
    -47.593,
    -10.368,
    34.473,
    38.094,
    7.505,
    -9.492,
]


def test_cepstra_equal_those_the_network_was_trained_on() -> None:
    t = np.arange(8000) / 16000
    tones = (0.3 * np.sin(2 * np.pi * 440 * t) + 0.1 * np.sin(2 * np.pi * 1330 * t)).astype(np.float32)
    found = mfcc(tones)
    assert found.shape == (49, 13)
    assert found[20].tolist() == pytest.approx(REFERENCE, abs=2e-3)


@pytest.mark.parametrize(("samples", "steps"), [(0, 0), (1, 1), (400, 1), (401, 2), (16000, 99)])
def test_every_length_of_sound_has_cepstra(samples: int, steps: int) -> None:
    found = mfcc(np.zeros(samples, np.float32))
    assert found.shape == (steps, 13)
    assert np.isfinite(found).all()


def state_file(path: Path, index: bytes, tensors: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", index)
        for key, content in tensors.items():
            archive.writestr(f"archive/data/{key}", content)
    return path


class Evil:
    """Runs a command when unpickled by the ordinary means."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/the-pickle-ran",)


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path: Path) -> None:
    trap = state_file(tmp_path / "w", pickle.dumps({"weight": Evil()}), {})
    with pytest.raises(ValueError, match=r"system has no place in a state file"):
        read_state(trap)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", os.urandom(300)])
def test_what_is_no_state_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(ValueError, match="state file"):
        read_state(tmp_path / "w")
    with pytest.raises(ValueError, match="named tensors"):
        read_state(state_file(tmp_path / "v", pickle.dumps([1, 2]), {}))


def test_tensors_come_out_as_they_went_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is written by an ordinary pickler against stand-ins for the two modules that it names."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    class FloatStorage:
        pass

    def _rebuild_tensor_v2(*_: Any) -> None:
        raise AssertionError("only its name is used")

    for thing, module in ((FloatStorage, torch), (_rebuild_tensor_v2, utils)):
        thing.__module__, thing.__qualname__ = module.__name__, thing.__name__
        setattr(module, thing.__name__, thing)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    values = np.arange(24, dtype="<f4")

    class Storage:
        pass

    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            return _rebuild_tensor_v2, (Storage(), 4, (2, 5), (5, 1), False, collections.OrderedDict())

    class Writer(pickle.Pickler):
        def persistent_id(self, thing: Any) -> Any:
            return ("storage", FloatStorage, "0", "cpu", 24) if isinstance(thing, Storage) else None

    index = io.BytesIO()
    Writer(index, protocol=2).dump(collections.OrderedDict(weight=Tensor()))
    read = read_state(state_file(tmp_path / "w", index.getvalue(), {"0": values.tobytes()}))
    assert read["weight"].tolist() == values[4:14].reshape(2, 5).tolist()
    with pytest.raises(ValueError, match="cut short"):
        read_state(state_file(tmp_path / "v", index.getvalue(), {"0": values[:9].tobytes()}))


class Counter:
    """A scorer that answers with the tick each picture was drawn for, and checks the sound beside it."""

    def __init__(self) -> None:
        self.most = 0

    def score(self, faces: NDArray[np.uint8], sound: NDArray[np.float32]) -> NDArray[np.float32]:
        assert len(sound) == 4 * len(faces)
        self.most = max(self.most, len(faces))
        assert np.array_equal(sound[::4, 0] // 4 % 200, faces[:, 56, 56])
        return sound[::4, 0] // 4


SOUND = np.repeat(np.arange(4000, dtype=np.float32)[:, None], 13, axis=1)
BOX = Box(t_s=0, x=20, y=20, w=40, h=50, score=0.9)


def grey(tick: int) -> NDArray[np.uint8]:
    return np.full((100, 100), tick % 200, np.uint8)


def test_each_picture_is_scored_once_beside_its_own_sound_and_memory_is_bounded() -> None:
    counter = Counter()
    reader = LipReader(lambda: (counter, SOUND), 50.0)
    for tick in range(730):
        reader.read(7, 50.0 + tick / 25, grey(tick), BOX)
    scores = reader.end_shot()[7]
    assert scores.values == list(range(730))
    assert np.allclose(scores.times, 50.0 + np.arange(730) / 25)
    assert counter.most == WINDOW + CONTEXT
    assert reader.end_shot() == {}


def test_faster_frames_are_thinned_slower_ones_repeated_and_gaps_left_open() -> None:
    reader = LipReader(lambda: (Counter(), SOUND), 0.0)
    ticks = [n / 60 * 25 for n in range(240)]
    for at in ticks:
        reader.read(1, at / 25, grey(round(at)), BOX)
    assert reader.end_shot()[1].values == list(range(101))
    for tick in [*range(0, 40), *range(90, 130)]:
        reader.read(1, tick / 25, grey(tick), BOX)
    assert reader.end_shot()[1].values == [*range(0, 40), *range(90, 130)]


def test_a_crowd_is_not_read_beyond_the_limit() -> None:
    reader = LipReader(lambda: (Counter(), SOUND), 0.0)
    for tick in range(30):
        for track in range(MAX_FACES + 3):
            reader.read(track, tick / 25, grey(tick), BOX)
    assert len(reader.end_shot()) == MAX_FACES


def test_the_network_that_was_asked_for_and_is_missing_fails_and_auto_says_so(tmp_path: Path) -> None:
    span = Span(start_s=0, end_s=1)
    with pytest.raises(Misconfigured, match="models pull lr-asd"):
        Attribution("lrasd", device="cpu", models_dir=tmp_path, threads=1, span=span, sound=lambda: [])
    chosen = Attribution("auto", device="cpu", models_dir=tmp_path, threads=1, span=span, sound=lambda: [])
    assert chosen.method == "signal"
    assert "models pull lr-asd" in chosen.notes[0]
    (tmp_path / lrasd.WEIGHTS_FILE).write_bytes(b"weights of something else")
    assert "sha256" in str(lrasd.missing(tmp_path))


@needs_weights
def test_the_network_hears_and_sees_who_speaks() -> None:
    """Two drawn people, one of whom moves the mouth with the speech: her score is above 0, the other's below."""
    from scipy.signal import resample_poly

    spoken = speech.say("A good bridge is one that bends, because a bridge that cannot bend will break.", 0).samples
    sound = mfcc(np.asarray(resample_poly(spoken, 1, 3), np.float32))
    painter = scenes.Painter("pair", 640, 360, 1, False)
    network = LrAsd(WEIGHTS, cuda=False, threads=1)
    readers = [LipReader(lambda: (network, sound), 0.0) for _ in range(2)]
    ticks = min(75, len(sound) // 4)
    for tick in range(ticks):
        around = spoken[max(0, tick * 1920 - 1200) : tick * 1920 + 1200]
        opening = min(0.6, float(np.sqrt(np.mean(around**2))) * 6)
        people = scenes.placements("pair", tick / 25, tick / ticks, 640, 360, (opening, 0.0))
        picture, boxes = painter.draw(people)
        for person, (x, y, w, h) in boxes:
            readers[person].read(person, tick / 25, picture[..., 1], Box(t_s=0, x=x, y=y, w=w, h=h, score=1))
    talks, listens = (np.array(readers[person].end_shot()[person].values) for person in range(2))
    assert np.median(talks) > 0 > np.median(listens)
    assert np.mean(talks > listens) > 0.9


@needs_weights
def test_the_network_wants_sound_for_each_picture() -> None:
    network = LrAsd(WEIGHTS, cuda=False, threads=1)
    with pytest.raises(ValueError, match="8 steps of sound"):
        network.score(np.zeros((2, 112, 112), np.uint8), np.zeros((7, 13), np.float32))
    assert network.score(np.zeros((2, 112, 112), np.uint8), np.zeros((8, 13), np.float32)).shape == (2,)
