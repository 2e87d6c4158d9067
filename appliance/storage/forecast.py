"""What a job will take on disk: source, scratch, clips; by what this box's jobs took, or defaults until it has some.

    source   the size it has; of a URL whose size nobody knows, the median of the URLs that were fetched
    scratch  intermediate files: a share of the source
    clips    the clips asked for, each at its longest, times bytes a second

Ratios are the 90th percentile of the box's last completed jobs: a forecast that is too low fills the disk, one that is
too high makes a job wait.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from appliance.settings import Stages
from appliance.sqlite import sqlite3
from appliance.storage.volume import size_text
from bus.events import JobOptions

ENOUGH_JOBS = 5
"""Completed jobs from which on the box's own ratios are used."""
LAST_JOBS = 200
LAST_LOOKED_AT = 2000
"""Of all jobs, for those that came from URLs: not a walk through years of history for each new job."""
QUANTILE = 0.9
SCRATCH_SHARE = 0.01
"""Of the source, until enough is known (measured on four jobs of 1 to 20 minutes: 0.08 to 0.4 %)."""
SCRATCH_LEAST_BYTES = 2_000_000
CLIP_BYTES_PER_S = 2_000_000
"""Until enough is known (measured on three of them: 0.5 to 1.7 MB a second; cut.max_bitrate_kbps allows 2.5)."""
URL_BYTES = 500_000_000
"""Of a URL before any was fetched: half an hour of 1080p as video sites serve it (about 2 Mbit/s)."""


class Ratios(Struct, frozen=True, kw_only=True):
    """What jobs take on this box."""

    jobs: int
    """Completed jobs they are learned from; 0: defaults."""
    scratch_share: float = SCRATCH_SHARE
    """Bytes of intermediate files for each byte of the source."""
    clip_bytes_per_s: float = CLIP_BYTES_PER_S
    """Bytes of a clip and its companions for each of its seconds."""
    url_bytes: int = URL_BYTES
    """A source whose size is not known."""


class Forecast(Struct, frozen=True, kw_only=True):
    """Bytes that a job will take at most, most likely."""

    source_bytes: int
    scratch_bytes: int
    clip_bytes: int
    total_bytes: int
    learned_from: int
    """Jobs that the ratios are learned from; 0: defaults."""

    def __str__(self) -> str:
        parts = f"source {size_text(self.source_bytes)}, scratch {size_text(self.scratch_bytes)}"
        return f"{size_text(self.total_bytes)} ({parts}, clips {size_text(self.clip_bytes)})"


def forecast(
    source_bytes: int | None, options: JobOptions, stages: Stages, ratios: Ratios, *, stored: bool = False
) -> Forecast:
    """What a job with a source of this size (None: not known) and these options will take.

    `stored`: the source is on the volume already and takes nothing more.
    """
    source = ratios.url_bytes if source_bytes is None else source_bytes
    scratch = max(SCRATCH_LEAST_BYTES, math.ceil(source * ratios.scratch_share))
    count = stages.moments.clips if options.clips is None else options.clips
    longest_s = stages.moments.max_length_s if options.max_length_s is None else options.max_length_s
    clips = math.ceil(count * longest_s * ratios.clip_bytes_per_s)
    source = 0 if stored else source
    return Forecast(
        source_bytes=source,
        scratch_bytes=scratch,
        clip_bytes=clips,
        total_bytes=source + scratch + clips,
        learned_from=ratios.jobs,
    )


def options_of(text: str) -> JobOptions:
    """The options as the database keeps them."""
    return msgspec.json.decode(text, type=JobOptions)


def learn(db: sqlite3.Connection) -> Ratios:
    """The ratios of the jobs that the box has completed and measured."""
    rows = db.execute(
        "SELECT size_bytes, scratch_bytes, clip_bytes,"
        " (SELECT sum(duration_s) FROM clips WHERE clips.job = jobs.job AND state = 'ready') AS clip_s"
        # CROSS JOIN and +: the newest measured jobs by their key, not all completed ones sorted
        " FROM job_bytes CROSS JOIN jobs USING (job)"
        " WHERE +jobs.state = 'completed' AND size_bytes > 0 ORDER BY job_bytes.job DESC LIMIT ?",
        (LAST_JOBS,),
    ).fetchall()
    urls = db.execute(
        "SELECT size_bytes FROM (SELECT kind, size_bytes FROM jobs ORDER BY job DESC LIMIT ?)"
        " WHERE kind = 'url' AND size_bytes > 0",
        (LAST_LOOKED_AT,),
    ).fetchall()
    url_bytes = round(statistics.median(row[0] for row in urls)) if urls else URL_BYTES
    measured = [row for row in rows if row[3]]
    if len(measured) < ENOUGH_JOBS:
        return Ratios(jobs=0, url_bytes=url_bytes)
    return Ratios(
        jobs=len(measured),
        scratch_share=quantile([row[1] / row[0] for row in measured]),
        clip_bytes_per_s=quantile([row[2] / row[3] for row in measured]),
        url_bytes=url_bytes,
    )


def quantile(values: Sequence[float], share: float = QUANTILE) -> float:
    """The smallest value that at least `share` of the values do not exceed. Raises ValueError for none."""
    if not values:
        raise ValueError("no values")
    return sorted(values)[math.ceil(share * len(values)) - 1]
