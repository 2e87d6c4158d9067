"""The process of a stage, before it is told what to do."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil

from appliance.worker.child import NICE

WAIT_S = 60.0


def test_a_stage_leaves_the_others_their_turn() -> None:
    ours = psutil.Process().nice()
    with subprocess.Popen(
        [sys.executable, "-m", "appliance.worker.child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        try:
            deadline = time.monotonic() + WAIT_S
            while psutil.Process(child.pid).nice() == ours and time.monotonic() < deadline:
                time.sleep(0.01)
            assert psutil.Process(child.pid).nice() == min(19, ours + NICE)
        finally:
            child.kill()
