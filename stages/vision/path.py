"""A camera path along one axis, planned with the whole shot in view.

After Grundmann, Kwatra and Essa, "Auto-Directed Video Stabilization with Robust L1 Optimal Camera Paths" (CVPR 2011):
minimise the weighted L1 norms of the path's first, second and third derivatives. L1 makes most of each derivative
exactly zero, so the path is made of standing still, even panning and even acceleration, as a person would film.

Times are steps of a uniform grid; positions are the window's near edge in pixels. What must stay in the picture enters
as a hard interval [low, high] per step, where the camera would like to be as a soft target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = NDArray[np.float64]

MAX_STEPS = 1500
"""A longer path must come on a coarser grid: the linear programme's time grows with the number of steps."""


class PathWeights(Struct, frozen=True, kw_only=True):
    """Costs per second of one window length. Only their ratios matter."""

    velocity: float = 1.0
    acceleration: float = 0.6
    jerk: float = 0.25
    off_target: float = 0.15
    """Per second and window length away from the target, inside the comfort zone."""
    outside_comfort: float = 2.0
    """The same beyond it."""


class Path(Struct, frozen=True, kw_only=True):
    """A planned path: one position per grid step."""

    positions: Floats
    overrun: float
    """The farthest that any position lies outside its interval [low, high], pixels; 0 when all were kept."""
    still: bool
    """All positions are equal."""


def plan_path(
    low: Floats,
    high: Floats,
    target: Floats,
    *,
    bounds: tuple[float, float],
    size: float,
    step_s: float,
    max_speed: float,
    comfort: float,
    weights: PathWeights | None = None,
) -> Path:
    """Plan positions for n grid steps.

    `low`, `high` (n): pixels; where nothing must be kept in view, -inf and inf. A crossed interval (low > high) is
    replaced by its middle. `target` (n): pixels, NaN for no wish. `bounds`: least and greatest position that keeps the
    window inside the picture; never left. `size`: window length along this axis, pixels; `max_speed`: window lengths
    per second, never exceeded; `comfort`: pixels around the target within which standing still is preferred.

    When one position satisfies every interval and comfort zone the path stands still at it. When the intervals cannot
    be met within bounds and speed, they are overrun by the least total amount and `overrun` says how far.
    Deterministic. Raises ValueError for empty, unequal or too many steps.
    """
    n = len(target)
    if not 0 < n <= MAX_STEPS or len(low) != n or len(high) != n:
        raise ValueError(f"a path needs 1 to {MAX_STEPS} steps with low, high and target each, not {n}")
    floor, ceiling = bounds
    if floor > ceiling:
        raise ValueError(f"bounds {bounds} leave no position")
    crossed = low > high
    low, high = low.copy(), high.copy()
    low[crossed] = high[crossed] = (low[crossed] + high[crossed]) / 2
    low, high = np.clip(low, floor, ceiling), np.clip(high, floor, ceiling)
    target = np.clip(target, floor, ceiling)

    still = _standing(low, high, target, comfort)
    if still is not None:
        return Path(positions=np.full(n, still), overrun=0.0, still=True)
    reachable = _reachable(low, high, max_speed * size * step_s)
    positions = _solve(
        low / size,
        high / size,
        target / size,
        limits=(floor / size, ceiling / size),
        step_s=step_s,
        max_speed=max_speed,
        comfort=comfort / size,
        weights=weights or PathWeights(),
        soft=not reachable,
    )
    positions = np.clip(positions * size, floor, ceiling)
    overrun = float(np.maximum(np.maximum(low - positions, positions - high), 0.0).max())
    return Path(
        positions=positions,
        overrun=0.0 if overrun < 1e-3 else overrun,
        still=bool(np.ptp(positions) < 1e-3),
    )


def _standing(low: Floats, high: Floats, target: Floats, comfort: float) -> float | None:
    """The one position inside every interval and comfort zone that is nearest to the median target, if any."""
    wishes = target[~np.isnan(target)]
    least, most = float(low.max()), float(high.min())
    if len(wishes):
        least, most = max(least, float(wishes.max()) - comfort), min(most, float(wishes.min()) + comfort)
    if least > most:
        return None
    wish = float(np.median(wishes)) if len(wishes) else (least + most) / 2
    return min(max(wish, least), most)


def _reachable(low: Floats, high: Floats, max_step: float) -> bool:
    """Whether some path stays in all intervals and moves at most `max_step` a step (interval propagation, exact)."""
    near, far = low[0], high[0]
    for least, most in zip(low[1:], high[1:], strict=True):
        near, far = max(near - max_step, least), min(far + max_step, most)
        if near > far + 1e-9:
            return False
    return True


def _solve(
    low: Floats,
    high: Floats,
    target: Floats,
    *,
    limits: tuple[float, float],
    step_s: float,
    max_speed: float,
    comfort: float,
    weights: PathWeights,
    soft: bool,
) -> Floats:
    """The linear programme, lengths in windows. Variables: positions, then one bound each on |1st|, |2nd|, |3rd|
    difference, on the distance to the target, on the part of it beyond comfort, and (soft) on the overrun."""
    from scipy.optimize import linprog
    from scipy.sparse import eye_array, vstack

    n = len(target)
    wished = np.flatnonzero(~np.isnan(target))
    differences = [_difference(n, order) for order in (1, 2, 3) if n > order]
    identity = eye_array(n, format="csr")
    blocks: list[tuple[Any, Floats, float, tuple[float, float | None]]] = []
    for order, matrix in enumerate(differences, 1):
        # a difference of order k over step_s**k, summed over time: the cost per difference carries step_s**(1 - k)
        cost = (weights.velocity, weights.acceleration, weights.jerk)[order - 1] * step_s ** (1 - order)
        limit = max_speed * step_s if order == 1 else None
        blocks.append((matrix, np.zeros(n - order), cost, (0.0, limit)))
    if len(wished):
        chosen = identity[wished]
        blocks.append((chosen, target[wished], weights.off_target * step_s, (0.0, None)))
        blocks.append((chosen, target[wished], weights.outside_comfort * step_s, (-comfort, None)))
    # |M x - c| <= u becomes two rows; for the comfort block u is shifted by -comfort so that only the excess costs
    sizes = [len(offset) for _, offset, _, _ in blocks]
    rows: list[Any] = []
    limits_right: list[Floats] = []
    cost_vector = [np.zeros(n)]
    box: list[tuple[float, float | None]] = (
        [limits] * n if soft else [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    )
    total = n + sum(sizes) + (n if soft else 0)
    at = n
    for (matrix, offset, cost, (floor, limit)), size in zip(blocks, sizes, strict=True):
        slack = min(floor, 0.0)
        bound = _placed(eye_array(size, format="csr"), at, total)
        path = _placed(matrix, 0, total)
        rows += [path - bound, -path - bound]
        limits_right += [offset - slack, -offset - slack]
        cost_vector.append(np.full(size, cost))
        box += [(0.0, limit)] * size
        at += size
    if soft:
        over = _placed(identity, at, total)
        path = _placed(identity, 0, total)
        rows += [path - over, -path - over]
        limits_right += [high, -low]
        # far above any gain in the other terms, so an interval is overrun only where it must be
        cost_vector.append(np.full(n, 1e3 * step_s))
        box += [(0.0, None)] * n
    solved = linprog(
        np.concatenate(cost_vector),
        A_ub=vstack(rows, format="csr"),
        b_ub=np.concatenate(limits_right),
        bounds=np.array([(a, np.inf if b is None else b) for a, b in box]),
        method="highs",
    )
    if solved.x is None:
        raise RuntimeError(f"the camera path has no solution: {solved.message}")
    return np.asarray(solved.x[:n], dtype=np.float64)


def _difference(n: int, order: int) -> csr_array:
    """The (n - order, n) matrix of the order-th forward difference."""
    from scipy.sparse import diags_array

    taps = {1: (-1.0, 1.0), 2: (1.0, -2.0, 1.0), 3: (-1.0, 3.0, -3.0, 1.0)}[order]
    return diags_array(taps, offsets=range(order + 1), shape=(n - order, n), format="csr")


def _placed(matrix: Any, column: int, total: int) -> csr_array:
    """`matrix` as columns [column, column + its width) of a wider, otherwise empty one."""
    from scipy.sparse import coo_array

    entries = matrix.tocoo()
    rows, columns = entries.coords
    return coo_array((entries.data, (rows, columns + column)), shape=(matrix.shape[0], total)).tocsr()
