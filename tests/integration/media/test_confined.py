"""What is done to files from outside in a confined child: joining picture and sound, and how its ends are told."""

from __future__ import annotations

import signal
from pathlib import Path

import msgspec
import pytest

from stages.errors import Transient
from stages.media import confined
from tests.media.maker import Spec, make

SPEC = Spec(seconds=2.0, scenes=("seated",), width=160, height=90)


def test_picture_and_sound_in_two_files_become_one(tmp_path: Path) -> None:
    silent, truth = make(msgspec.structs.replace(SPEC, audio="none"))
    sounding, _ = make(msgspec.structs.replace(SPEC, suffix=".mkv"))
    joined = tmp_path / "joined"
    confined.join_sandboxed([silent, sounding], joined)
    probe = confined.probe_sandboxed(joined)
    assert probe.audio is not None
    assert probe.duration_s == pytest.approx(truth.duration_s, abs=0.05)


def test_a_check_that_crashes_or_hangs_is_told_apart(tmp_path: Path) -> None:
    video, _ = make(SPEC)
    with pytest.raises(Transient) as late:
        confined.probe_sandboxed(video, wall_s=0.01)
    assert late.value.code == "probe-timeout"
    ends = {
        -signal.SIGSEGV: "decoder-crash",
        -signal.SIGXCPU: "too-slow",
        -signal.SIGKILL: "probe-killed",
        1: "probe-failed",
    }
    for code, expected in ends.items():
        assert confined._bad_end(code, b"Traceback\nSomeError: text").code == expected
