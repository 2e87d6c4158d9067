"""Progress of running stages: at most so many frames a second for each job, and the last word on each.

Reports come as telemetry, up to four a second from each worker; a job whose clips run side by side has several
workers. Between two frames of a job the newest report of each item waits; the item that has waited longest goes first.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec
from msgspec import Struct

from appliance.worker.report import JobProgress

MIN_GAP_S = 0.25
MAX_JOBS = 512
MAX_ITEMS = 64
"""Of one job that have something to say between two frames."""
FORGET_S = 600.0
"""A job that has reported nothing for this long is forgotten."""

Item = tuple[str, int | None]
_decoder = msgspec.json.Decoder(JobProgress)


class _Job(Struct):
    last: JobProgress
    heard_s: float
    sent_s: float = float("-inf")
    waiting: OrderedDict[Item, bytes] = msgspec.field(default_factory=OrderedDict)


class ProgressGate:
    """Pure but for its state: the caller brings the clock (monotonic seconds) and sends what comes out."""

    def __init__(self, min_gap_s: float = MIN_GAP_S) -> None:
        self._min_gap_s = min_gap_s
        self._jobs: OrderedDict[str, _Job] = OrderedDict()

    def report(self, data: bytes, now: float) -> tuple[str, bytes] | None:
        """Takes a report in; the job and the report to send now, or None when it has to wait. Bad bytes are None."""
        try:
            report = _decoder.decode(data)
        except msgspec.DecodeError:
            return None
        job = self._jobs.get(report.job)
        if job is None:
            job = self._jobs[report.job] = _Job(report, now)
            if len(self._jobs) > MAX_JOBS:
                self._jobs.popitem(last=False)
        self._jobs.move_to_end(report.job)
        job.last, job.heard_s = report, now
        item = (report.stage, report.clip)
        if not job.waiting and now - job.sent_s >= self._min_gap_s:
            job.sent_s = now
            return report.job, data
        if item in job.waiting or len(job.waiting) < MAX_ITEMS:
            job.waiting[item] = data
        return None

    def due(self, now: float) -> list[tuple[str, bytes]]:
        """Reports whose time has come: at most one for each job."""
        found = []
        for name, job in self._jobs.items():
            if job.waiting and now - job.sent_s >= self._min_gap_s:
                _, data = job.waiting.popitem(last=False)
                job.sent_s = now
                found.append((name, data))
        return found

    def next_due_in(self, now: float) -> float | None:
        """Seconds until something is due; None when nothing waits."""
        times = [job.sent_s + self._min_gap_s - now for job in self._jobs.values() if job.waiting]
        return max(0.0, min(times)) if times else None

    def last(self, job: str) -> JobProgress | None:
        """The newest report of the job, None when there is none."""
        found = self._jobs.get(job)
        return None if found is None else found.last

    def ended(self, job: str) -> None:
        """The job's present work is over: what waits of it is void."""
        self._jobs.pop(job, None)

    def forget(self, now: float) -> None:
        """Drop jobs that have fallen silent."""
        for name in [name for name, job in self._jobs.items() if now - job.heard_s > FORGET_S]:
            del self._jobs[name]
