"""What long-running processes have in common."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
from appliance.service import _started
built = [[] for _ in range(1000)]
_started()
watched = {id(one) for one in gc.get_objects()}
print(sum(id(one) in watched for one in built), gc.get_freeze_count() > 1000)
"""


def test_what_a_process_started_with_is_not_looked_through_for_garbage_again() -> None:
    told = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout == "0 True\n"
