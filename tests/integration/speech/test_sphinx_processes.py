"""The decoder processes: they end with their parent, their death is told, and they work inside the sandbox."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from stages.errors import Transient
from stages.speech.sphinx import SphinxRecogniser
from stages.speech.vad import VadSettings, grouped, pieces
from tests.integration.speech.kit import Samples, job_folder

_HOLD = """
import sys
from stages.speech.sphinx import SphinxRecogniser
import psutil
with SphinxRecogniser(2):
    print(*(child.pid for child in psutil.Process().children()), flush=True)
    sys.stdin.read()
"""

_IN_SANDBOX = """
import sys
from pathlib import Path
from bus.events import JobSource
from stages import transcribe
from stages.base import Task
from stages.folder import JobFolder
from stages.media import sandbox
folder = JobFolder(Path(sys.argv[1]), Path(sys.argv[2]))
folder.output.mkdir(parents=True)
report = sandbox.enter(sandbox.SandboxPolicy(
    read=[folder.root], write=[folder.root, folder.output], max_address_space_bytes=8 * 2**30))
task = Task(stage="transcribe", job="job", origin=JobSource(kind="file", location="/x", name="x"))
result = transcribe.run(task, folder, transcribe.Options(threads=2), lambda done, note=None: None)
print(result.model, result.rough, ", ".join(report.layers), file=sys.stderr)
"""


def test_decoders_die_with_a_killed_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    with parent:
        assert parent.stdout is not None
        decoders = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(decoders) == 2
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
        _, alive = psutil.wait_procs(decoders, timeout=10)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def test_a_dead_decoder_is_a_transient_error(speech_like: Samples) -> None:
    groups = list(grouped(pieces([speech_like], VadSettings()), 30.0, 30.0))
    before = {c.pid for c in psutil.Process().children()}
    with SphinxRecogniser(1) as recogniser:
        (child,) = [c for c in psutil.Process().children() if c.pid not in before]
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(Transient, match="recogniser ended") as caught:
            list(recogniser.transcribe(groups))
    assert caught.value.code == "recogniser-died"


def test_stopping_early_leaves_no_process(speech_like: Samples) -> None:
    groups = list(grouped(pieces([speech_like], VadSettings()), 3.0, 1.0))
    before = len(psutil.Process().children())
    with SphinxRecogniser(2) as recogniser:
        stream = recogniser.transcribe(groups * 3)
        next(stream)
        del stream
    assert len(psutil.Process().children()) == before


def test_it_works_inside_the_sandbox(tmp_path: Path, speech_like: Samples) -> None:
    folder = job_folder(tmp_path, speech_like)
    done = subprocess.run(
        [sys.executable, "-c", _IN_SANDBOX, str(folder.root), str(folder.output)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        cwd=Path.cwd(),
    )
    assert done.returncode == 0, done.stderr
    assert "pocketsphinx-en-us True" in done.stderr
    assert folder.transcript().rough
