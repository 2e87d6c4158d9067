"""Silences and acknowledgements on disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from appliance.alerts import orders

NOW = 1_800_000_000.0


def test_a_silence_is_kept_with_who_why_and_until_when(tmp_path: Path) -> None:
    made = orders.silence(tmp_path, "gpu.*", for_s=60, author="ann", reason="fan", wall_s=NOW)
    assert orders.read(tmp_path).silences == (made,)
    assert (made.author, made.reason, made.until_s) == ("ann", "fan", NOW + 60)
    assert made.matches("gpu.temp", "GPU-1", NOW + 59)
    assert not made.matches("gpu.temp", "GPU-1", NOW + 60)
    assert not made.matches("disk.data.used", "data", NOW)
    assert orders.end_silence(tmp_path, made.id, wall_s=NOW)
    assert not orders.end_silence(tmp_path, made.id, wall_s=NOW)
    assert orders.read(tmp_path).silences == ()


def test_expired_ones_leave_the_file(tmp_path: Path) -> None:
    orders.silence(tmp_path, "a", for_s=60, author="ann", reason="r", wall_s=NOW)
    later = orders.silence(tmp_path, "b", for_s=60, author="ann", reason="r", wall_s=NOW + 61)
    assert orders.read(tmp_path).silences == (later,)


@pytest.mark.parametrize(("for_s", "reason"), [(0, "r"), (-1, "r"), (1e9, "r"), (60, " ")])
def test_one_without_end_or_reason_is_refused(tmp_path: Path, for_s: float, reason: str) -> None:
    with pytest.raises(ValueError, match="silence"):
        orders.silence(tmp_path, "a", for_s=for_s, author="ann", reason=reason, wall_s=NOW)
    assert orders.read(tmp_path) == orders.Orders()


def test_the_number_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "MAX_SILENCES", 2)
    for _ in range(2):
        orders.silence(tmp_path, "a", for_s=60, author="ann", reason="r", wall_s=NOW)
    with pytest.raises(ValueError, match="already"):
        orders.silence(tmp_path, "a", for_s=60, author="ann", reason="r", wall_s=NOW)


def test_the_last_acknowledgement_counts(tmp_path: Path) -> None:
    orders.acknowledge(tmp_path, "mem-oom", author="ann", wall_s=NOW)
    orders.acknowledge(tmp_path, "mem-oom", author="bob", wall_s=NOW + 5)
    assert orders.read(tmp_path).acked_s() == {"mem-oom": NOW + 5}


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    orders.path_of(tmp_path).parent.mkdir()
    orders.path_of(tmp_path).write_text("{")
    with pytest.raises(orders.OrdersDamaged, match="delete it"):
        orders.read(tmp_path)


def test_two_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from appliance.alerts import orders\n"
        "for n in range(10): orders.acknowledge(Path(sys.argv[1]), f'{sys.argv[2]}-{n}', author='x')"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name], cwd=Path(__file__).parents[3])
        for name in ("a", "b")
    ]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    assert len(orders.read(tmp_path).acks) == 20
