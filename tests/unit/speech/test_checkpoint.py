"""What survives a killed transcription."""

from __future__ import annotations

from pathlib import Path

from stages.artifacts import Word
from stages.speech.checkpoint import NAME, Checkpoint
from stages.speech.recogniser import Heard

HEARD = Heard(start_s=0, end_s=2, words=[Word(text="hi", start_s=0, end_s=1, confidence=1)], language="en")


def test_what_was_stored_comes_back_for_the_same_work_only(tmp_path: Path) -> None:
    Checkpoint(tmp_path, ["sha", "model"], 0.0).add(HEARD)
    assert Checkpoint(tmp_path, ["sha", "model"], 0.0).heard == [HEARD]
    assert Checkpoint(tmp_path, ["sha", "other model"], 0.0).heard == []


def test_it_is_stored_at_most_so_often(tmp_path: Path) -> None:
    now = 0.0
    checkpoint = Checkpoint(tmp_path, ["k"], 15.0, clock=lambda: now)
    checkpoint.add(HEARD)
    assert not (tmp_path / NAME).exists()
    now = 15.0
    checkpoint.add(HEARD)
    assert Checkpoint(tmp_path, ["k"], 15.0).heard == [HEARD, HEARD]


def test_a_damaged_checkpoint_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b'{"version": 1, "key"')
    assert Checkpoint(tmp_path, ["k"], 0.0).heard == []
