"""`python -m bench [NAME ...]`: run the named benchmarks (`BENCHES`), or all. Exit 1 if one misses its target."""

from __future__ import annotations

import subprocess
import sys

BENCHES = ("bus", "projection", "dispatcher", "peer", "ssot", "live", "idle", "cut", "pipeline")


def main() -> int:
    wanted = sys.argv[1:] or list(BENCHES)
    unknown = [name for name in wanted if name not in BENCHES]
    if unknown:
        sys.stderr.write(f"no benchmark {unknown[0]}: there are {', '.join(BENCHES)}\n")
        return 2
    worst = 0
    for name in wanted:
        sys.stdout.write(f"== {name}\n")
        sys.stdout.flush()
        worst = max(worst, subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main())
