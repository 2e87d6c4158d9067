"""Weighted interval scheduling with a count: the best set of disjoint spans, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def schedule(
    starts_s: NDArray[np.float64] | Sequence[float],
    ends_s: NDArray[np.float64] | Sequence[float],
    scores: NDArray[np.float64] | Sequence[float],
    count: int,
    min_gap_s: float,
) -> list[int]:
    """Indices, in order of time, of `count` spans with the largest sum of scores.

    Any two chosen spans are at least `min_gap_s` (>= 0) apart. Where `count` such spans do not exist, as many as do.
    Scores may be negative: the number comes first. Equal sums: the one whose last spans end earlier. Dynamic programme
    over spans by end, O(n (log n + count)) time, O(n count) memory.
    """
    import numpy as np

    starts, ends = np.asarray(starts_s, np.float64), np.asarray(ends_s, np.float64)
    values = np.asarray(scores, np.float64)
    n = len(starts)
    if n == 0 or count <= 0:
        return []
    order = np.lexsort((-values, starts, ends))
    by_end = ends[order]
    # Spans before[k] first ones (by end) are far enough before span k.
    before = np.searchsorted(by_end, starts[order] - min_gap_s + 1e-9, side="right")
    before = np.minimum(before, np.arange(n))  # a span shorter than rounding is not its own forerunner
    count = min(count, n)
    best = np.full((n + 1, count + 1), -np.inf)
    best[:, 0] = 0.0
    taken = np.zeros((n + 1, count + 1), bool)
    for k in range(n):
        with_it = best[before[k], :-1] + values[order[k]]
        better = with_it > best[k, 1:]
        taken[k + 1, 1:] = better
        best[k + 1, 1:] = np.where(better, with_it, best[k, 1:])
    left = int(np.flatnonzero(best[n] > -np.inf)[-1])
    chosen: list[int] = []
    k = n
    while left:
        if taken[k, left]:
            chosen.append(int(order[k - 1]))
            k, left = int(before[k - 1]), left - 1
        else:
            k -= 1
    return chosen[::-1]
