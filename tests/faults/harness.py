"""A real box in its own process tree, killed on purpose, and the invariants that must hold afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil

from appliance.boxlink import connect
from appliance.config import Config, load
from appliance.sqlite import sqlite3
from appliance.supervisor.lock import box_pid
from bus.connection import Bus
from bus.events import DONE, AnyEvent, StageName, decode_event

ENDED = ("job:completed", "job:failed", "job:cancelled")
START_TIMEOUT_S = 60.0


class RealBox:
    """`appliance up` on a folder of its own."""

    def __init__(self, folder: Path, settings: str = "") -> None:
        self.folder = folder
        self.config_path = folder / "appliance.yaml"
        self.config_path.write_text(
            f"data_dir: {folder / 'data'}\nbus: {{port: 0}}\nweb: {{port: 0}}\n"
            "supervisor: {restart_delay_s: 0.1, restart_delay_max_s: 0.5, stop_grace_s: 5}\n"
            "retry: {backoff_s: 0.2}\nstages: {cut: {preset: ultrafast, device: cpu}, "
            "download: {allow_private_hosts: true}}\n" + settings
        )
        self.config: Config = load(self.config_path, {})
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def database(self) -> Path:
        return self.config.data_dir / "appliance.db"

    def start(self) -> None:
        """Start and wait until the box says that it is up. What did not come up in time is killed."""
        log = (self.folder / "up.log").open("ab")
        size = log.tell()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "appliance", "-c", str(self.config_path), "up"],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            text = (self.folder / "up.log").read_bytes()[size:].decode(errors="replace")
            if "the box is up" in text:
                return
            assert self.process.poll() is None, f"the box ended at start:\n{text}"
            time.sleep(0.05)
        self.kill_everything()
        raise AssertionError(f"the box was not up after {START_TIMEOUT_S:.0f} s:\n{text}")

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    def kill_everything(self) -> None:
        """SIGKILL the supervisor and all its descendants, as a power cut would."""
        for process in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self.process is not None:
            self.process.wait(10)

    def tree(self) -> list[psutil.Process]:
        """The supervisor first, then everything below it."""
        assert self.process is not None
        try:
            supervisor = psutil.Process(self.process.pid)
            return [supervisor, *supervisor.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def find(self, *words: str) -> list[psutil.Process]:
        """Processes of the tree whose command line holds all `words`."""
        found = []
        for process in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if all(any(word in part for part in process.cmdline()) for word in words):
                    found.append(process)
        return found

    def kill(self, *words: str) -> bool:
        """SIGKILL the first process found; False when there is none at the moment."""
        for process in self.find(*words):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                return True
        return False

    @contextlib.contextmanager
    def frozen(self, *words: str) -> Iterator[None]:
        """SIGSTOP whatever is found until the block ends."""
        found = self.find(*words)
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        try:
            yield
        finally:
            for process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def kill_worker(self, stage: StageName) -> bool:
        return self.kill("appliance.worker", stage)

    @contextlib.asynccontextmanager
    async def bus(self) -> AsyncIterator[Bus]:
        async with await connect(self.config) as bus:
            yield bus

    def leftovers(self) -> list[str]:
        """Processes anywhere that still belong to this box's folder."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                line = " ".join(process.cmdline())
                variables = process.environ()
                mine = str(self.folder) in line or str(self.folder) in variables.get("APPLIANCE_RESOLVED_CONFIG", "")
                if mine and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                    found.append(f"{process.pid} {line}")
        return found


async def wait_for_end(box: RealBox, jobs: list[str], timeout_s: float) -> dict[str, str]:
    """Wait until every job has ended in the database; job to state. Fails with the stragglers' last events."""
    deadline = time.monotonic() + timeout_s
    while True:
        states = job_states(box.database, jobs)
        if all(state in ("completed", "failed", "cancelled", "deleted") for state in states.values()):
            return states
        if time.monotonic() > deadline:
            stuck = [job for job, state in states.items() if state not in ("completed", "failed", "cancelled")]
            raise AssertionError(f"still open after {timeout_s:.0f} s: {states}\n" + history(box.database, stuck[0]))
        await asyncio.sleep(0.1)


def job_states(database: Path, jobs: list[str]) -> dict[str, str]:
    if not database.exists():
        return dict.fromkeys(jobs, "unknown")
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
        states = dict.fromkeys(jobs, "unknown")
        for job in jobs:
            row = connection.execute("SELECT state FROM jobs WHERE job = ?", (job,)).fetchone()
            if row is not None:
                states[job] = row[0]
        return states


def facts_of(database: Path, job: str) -> list[tuple[int, AnyEvent]]:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
        rows = connection.execute("SELECT seq, payload FROM events WHERE job = ? ORDER BY seq", (job,)).fetchall()
    return [(seq, decode_event(payload)) for seq, payload in rows]


def history(database: Path, job: str) -> str:
    lines = []
    for seq, event in facts_of(database, job):
        extra = {k: getattr(event, k) for k in ("attempt", "claim", "worker", "error") if hasattr(event, k)}
        lines.append(f"{seq} {event.ts:%H:%M:%S.%f} {event.__struct_config__.tag} clip={event.clip} {extra}")
    return "\n".join(lines)


def check_invariants(box: RealBox, jobs: list[str]) -> None:
    """What must hold after every trial: see the messages."""
    for job in jobs:
        told = history(box.database, job)
        facts = facts_of(box.database, job)
        kinds = Counter(str(event.__struct_config__.tag) for _, event in facts)
        assert sum(kinds[end] for end in ENDED) == 1, f"the job must end exactly once\n{told}"
        done_types = set(DONE.values())
        done = Counter((type(e).__name__, e.clip) for _, e in facts if type(e) in done_types)
        assert all(count == 1 for count in done.values()), f"a stage's result was stored twice: {done}\n{told}"
        assert kinds["job:completed"] == 1, f"the job must complete\n{told}"
        planned = kinds["clip:planned"]
        assert planned > 0, told
        assert kinds["clip:ready"] == planned, f"{planned} clips planned, {kinds['clip:ready']} made\n{told}"
        _check_files(box, job, told)


def _check_files(box: RealBox, job: str, told: str) -> None:
    output = box.config.data_dir / "output" / job
    expected: set[str] = set()
    for _, event in facts_of(box.database, job):
        if event.__struct_config__.tag != "clip:ready":
            continue
        path = output / event.path  # type: ignore[union-attr]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert digest == event.sha256, f"{path} is not the file that was announced\n{told}"  # type: ignore[union-attr]
        expected |= {path.with_suffix(suffix).name for suffix in (".mp4", ".srt", ".vtt", ".jpg", ".json")}
    assert {p.name for p in output.iterdir()} == expected, f"files beyond or short of the clips in {output}"
    parts = [str(p) for p in (box.config.data_dir / "jobs" / job).rglob("*.part")]
    assert not parts, f"part files are left: {parts}"


def box_is_gone(box: RealBox) -> bool:
    return box_pid(box.config.data_dir) is None
