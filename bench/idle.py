"""What the box costs when it has nothing to do: `python -m bench.idle [--seconds 60] [--json]`.

Starts `appliance up` with its defaults on an empty folder, waits until it has settled, then sums over all its
processes: resident memory (RSS, and PSS, which counts shared pages once) and processor time used in the interval, as a
share of one core. Processor time is what the kernel booked to the processes, so other load does not matter.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from tests.lean import lean_environment

MAX_RSS_MIB = 450
MAX_CORE_SHARE = 0.03
SETTLE_S = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        config = Path(folder) / "appliance.yaml"
        config.write_text("data_dir: data\nbus: {port: 0}\nweb: {port: 0}\n")
        environment = lean_environment(Path(folder))
        command = [sys.executable, "-m", "appliance", "-c", str(config), "up"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as box:
            assert box.stderr is not None
            for line in box.stderr:
                if "the box is up" in line:
                    break
            time.sleep(SETTLE_S)
            told = _measure(psutil.Process(box.pid), arguments.seconds)
            box.send_signal(signal.SIGTERM)
            box.stderr.read()
    if arguments.json:
        print(json.dumps(told, indent=1))
    else:
        for row in told["processes"]:
            print(f"  {row['name']:16} {row['rss_mib']:6.1f} MiB  {row['core_share']:7.3%} of a core")
        print(
            f"  together {told['rss_mib']:.0f} MiB RSS (target {MAX_RSS_MIB}), {told['pss_mib']:.0f} MiB PSS,", end=" "
        )
        print(f"{told['core_share']:.2%} of a core (target {MAX_CORE_SHARE:.0%}) over {arguments.seconds:.0f} s")
    return 0 if told["rss_mib"] <= MAX_RSS_MIB and told["core_share"] < MAX_CORE_SHARE else 1


def _measure(supervisor: psutil.Process, seconds: float) -> dict[str, Any]:
    processes = [supervisor, *supervisor.children(recursive=True)]
    before = [_cpu_s(process) for process in processes]
    time.sleep(seconds)
    rows: list[dict[str, Any]] = []
    pss = 0
    for process, cpu_s in zip(processes, before, strict=True):
        pss += process.memory_full_info().pss
        rows.append(
            {
                "name": _name(process.cmdline()),
                "rss_mib": round(process.memory_info().rss / 2**20, 1),
                "core_share": round((_cpu_s(process) - cpu_s) / seconds, 5),
            }
        )
    return {
        "processes": rows,
        "rss_mib": round(sum(row["rss_mib"] for row in rows), 1),
        "pss_mib": round(pss / 2**20, 1),
        "core_share": round(sum(row["core_share"] for row in rows), 5),
    }


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _name(command: list[str]) -> str:
    line = " ".join(command)
    for word, name in (("nats-server", "bus"), ("redis-server", "cache"), ("valkey-server", "cache")):
        if word in line:
            return name
    if "appliance.worker" in line:
        return f"worker {command[-1]}"
    return "dispatcher" if "appliance.dispatcher" in line else command[-1].removeprefix("appliance.")


if __name__ == "__main__":
    sys.exit(main())
