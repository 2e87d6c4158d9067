"""Candidate clips: every run of units whose length fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.story.units import Unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Indices = NDArray[np.int64]
    Times = NDArray[np.float64]

MAX_CANDIDATES = 200_000
"""Bounds memory and time: with 1 s units and 15..60 s clips this is more than an hour of talk without thinning."""


@dataclass(frozen=True, slots=True)
class Spans:
    """Candidate k runs from unit first[k] to unit last[k] (inclusive) and shows [start_s[k], end_s[k])."""

    first: Indices
    last: Indices
    start_s: Times
    end_s: Times

    def __len__(self) -> int:
        return len(self.first)


def candidates(
    units: Sequence[Unit], duration_s: float, min_s: float, max_s: float, pad_s: float
) -> tuple[Spans, Spans]:
    """(fitting, short): runs of min_s to max_s, and for each first unit the longest run that is too short.

    Each run gets up to `pad_s` of the pause before and after it, never more than half of that pause, so that clips
    beside each other do not overlap. Short runs are drawn out into the pauses beside them as far as min_s needs; those
    that reach it are fitting.
    """
    import numpy as np

    count = len(units)
    starts = np.array([u.start_s for u in units], np.float64)
    ends = np.array([u.end_s for u in units], np.float64)
    if not count:
        return _spans([]), _spans([])
    gap_before = np.maximum(starts - np.concatenate([[0.0], ends[:-1]]), 0.0)
    gap_after = np.concatenate([gap_before[1:], [max(duration_s - ends[-1], 0.0)]])
    lead = np.minimum(pad_s, np.where(np.arange(count) == 0, gap_before, gap_before / 2))
    tail = np.minimum(pad_s, np.where(np.arange(count) == count - 1, gap_after, gap_after / 2))
    opens, closes = starts - lead, ends + tail

    fitting: list[tuple[int, int, float, float]] = []
    short: list[tuple[int, int, float, float]] = []
    lows = np.searchsorted(closes, opens + min_s - 1e-9)
    highs = np.searchsorted(closes, opens + max_s + 1e-9)
    lows, highs = np.maximum(lows, np.arange(count)), np.maximum(highs, np.arange(count))
    total = int(np.sum(np.maximum(highs - lows, 0)))
    stride = max(1, -(-total // MAX_CANDIDATES))  # thin out the lengths, never the starts
    for i in range(count):
        js = range(int(lows[i]), int(highs[i]), stride)
        fitting += [(i, j, float(opens[i]), float(closes[j])) for j in js]
        if not js:
            j = max(i, int(highs[i]) - 1)
            lack_s = min_s - float(closes[j] - opens[i])
            after_s = min(max(lack_s, 0.0), max(float(gap_after[j] - tail[j]), 0.0))
            before_s = min(max(lack_s - after_s, 0.0), max(float(gap_before[i] - lead[i]), 0.0))
            start_s, end_s = float(opens[i]) - before_s, float(closes[j]) + after_s
            whole = min_s - 1e-6 <= end_s - start_s <= max_s + 1e-6
            (fitting if whole else short).append((i, j, start_s, end_s))
    return _spans(fitting), _spans(short)


def joined(one: Spans, other: Spans) -> Spans:
    """Both, one after the other."""
    import numpy as np

    return Spans(
        np.concatenate([one.first, other.first]),
        np.concatenate([one.last, other.last]),
        np.concatenate([one.start_s, other.start_s]),
        np.concatenate([one.end_s, other.end_s]),
    )


def _spans(rows: list[tuple[int, int, float, float]]) -> Spans:
    import numpy as np

    table = np.array(rows, np.float64).reshape(-1, 4)
    return Spans(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2], table[:, 3])
