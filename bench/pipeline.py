"""What a whole job costs: `python -m bench.pipeline [--minutes 1 5 20] [--clips 3] [--json]`.

For each source length, a fresh data folder and one `appliance process --json` on an otherwise idle machine. Printed:
seconds and times real time per stage, seconds from `job:created` to the first `clip:ready`, peak resident memory of
each kind of process (sampled every 50 ms), and the cost per source minute outside transcription, which must fall as
the source grows: the clips are the same number and length, only finding them scales with the source.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from appliance.sqlite import sqlite3

SAMPLE_S = 0.05


def kind_of(command: list[str]) -> str:
    """Which of the box's processes a command line is."""
    line = " ".join(command)
    for word in ("nats-server", "redis-server", "valkey-server"):
        if word in line:
            return word
    if "appliance.worker.child" in line:
        return "stage child"
    if "appliance.worker" in line:
        return f"worker {command[-1]}"
    if "appliance.dispatcher" in line:
        return "dispatcher"
    return "appliance process"


class PeakMemory:
    """Largest resident size of each kind of process below this one, sampled on a thread."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes: dict[str, int] = {}
        self.peak_total_bytes = 0
        self._root = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            total = 0
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in [self._root, *self._root.children(recursive=True)]:
                    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                        rss = process.memory_info().rss
                        kind = kind_of(process.cmdline())
                        total += rss
                        self.peak_bytes[kind] = max(self.peak_bytes.get(kind, 0), rss)
            self.peak_total_bytes = max(self.peak_total_bytes, total)


def source(minutes: float) -> Path:
    """A synthetic talk of the given length, made once and kept in the test-material cache."""
    path = Path(tempfile.gettempdir()) / f"bench-talk-{minutes:g}.mp4"
    if not path.exists():
        command = [sys.executable, "-m", "tests.media.maker", str(path), "--seconds", str(int(minutes * 60))]
        subprocess.run(command, check=True)
    return path


def measure(minutes: float, clips: int) -> dict[str, Any]:
    video = source(minutes)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        config = Path(folder) / "appliance.yaml"
        config.write_text("data_dir: data\nbus: {port: 0}\n")
        command = [sys.executable, "-m", "appliance", "-c", str(config), "process", str(video)]
        command += ["--clips", str(clips), "--length", "20..30", "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process, PeakMemory(process.pid) as memory:
            assert process.stdout is not None
            report = json.loads(process.stdout.read())
        first_clip_s = _first_clip_s(Path(folder) / "data" / "appliance.db")
    elsewhere_s = sum(row["seconds"] for stage, row in report["stages"].items() if stage != "transcribe")
    return {
        "minutes": minutes,
        "seconds": report["seconds"],
        "clips": len(report["clips"]),
        "first_clip_s": first_clip_s,
        "stages": report["stages"],
        "outside_transcription_s_per_source_minute": round(elsewhere_s / minutes, 2),
        "peak_mib": {kind: round(size / 2**20) for kind, size in sorted(memory.peak_bytes.items())},
        "peak_total_mib": round(memory.peak_total_bytes / 2**20),
    }


def _first_clip_s(database: Path) -> float | None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (created,) = connection.execute("SELECT ts FROM events WHERE type = 'job:created'").fetchone()
        (ready,) = connection.execute("SELECT min(ts) FROM events WHERE type = 'clip:ready'").fetchone()
    if ready is None:
        return None
    return round((datetime.fromisoformat(ready) - datetime.fromisoformat(created)).total_seconds(), 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 5, 20])
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    rows = []
    for minutes in arguments.minutes:
        row = measure(minutes, arguments.clips)
        rows.append(row)
        if not arguments.json:
            _print(row)
    costs = [row["outside_transcription_s_per_source_minute"] for row in rows]
    falls = all(a > b for a, b in itertools.pairwise(costs))
    if arguments.json:
        print(json.dumps({"sources": rows, "cost_falls": falls}, indent=1))
    else:
        print(f"cost per source minute outside transcription: {' > '.join(str(c) for c in costs)} s")
        print("it falls as the source grows" if falls else "IT DOES NOT FALL AS THE SOURCE GROWS")
    return 0 if falls else 1


def _print(row: dict[str, Any]) -> None:
    made = f"{row['clips']} clips in {row['seconds']} s, the first after {row['first_clip_s']} s"
    print(f"{row['minutes']:g} min source: {made}")
    for stage, told in row["stages"].items():
        speed = f"{told['times_real_time']}x real time" if told["times_real_time"] else ""
        print(f"  {stage:11} {told['seconds']:8.2f} s  {speed}")
    print("  peak memory, MiB: " + ", ".join(f"{kind} {size}" for kind, size in row["peak_mib"].items()))
    print(f"  peak of all together: {row['peak_total_mib']} MiB")


if __name__ == "__main__":
    sys.exit(main())
