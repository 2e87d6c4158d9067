"""`python -m bench [NAME ...]`: run the named benchmarks (`BENCHES`), or all. Exit 1 if one misses its target."""

from __future__ import annotations

import subprocess
import sys

BENCHES: dict[str, tuple[str, ...]] = {
    "bus": ("bus",),
    "projection": ("projection",),
    "dispatcher": ("dispatcher",),
    "peer": ("peer",),
    "ssot": ("ssot", "http_cache", "first_load"),
    "live": ("live",),
    "upload": ("upload",),
    "idle": ("idle",),
    "cut": ("cut",),
    "pipeline": ("pipeline",),
}
"""Each benchmark and its modules of `bench`, run one after the other."""


def main() -> int:
    wanted = sys.argv[1:] or list(BENCHES)
    unknown = [name for name in wanted if name not in BENCHES]
    if unknown:
        sys.stderr.write(f"no benchmark {unknown[0]}: there are {', '.join(BENCHES)}\n")
        return 2
    worst = 0
    for name in wanted:
        for module in BENCHES[name]:
            sys.stdout.write(f"== {name if module == name else f'{name}: {module}'}\n")
            sys.stdout.flush()
            worst = max(worst, subprocess.run([sys.executable, "-m", f"bench.{module}"], check=False).returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main())
