"""Where exactly a chosen clip begins and ends: in a pause, on a cut where one is near, never inside a word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stages.artifacts import Span
from stages.story.sound import Sound

Cuts = Callable[[float, float], list[float]]
"""Times of hard cuts inside a range of at most two seconds."""

_CUT_REACH_S = 1.0
"""A border moves at most this far to meet a cut."""
_QUIET_REACH_S = 0.35
"""A border moves at most this far to meet a quieter moment."""
_REACTION_REACH_S = 2.0
"""A clip is drawn out by at most this much to hear the laughter or applause it earned."""


@dataclass(frozen=True, slots=True)
class Room:
    """A border may lie anywhere in [earliest_s, latest_s]: from word to word, or around it where nobody speaks."""

    earliest_s: float
    latest_s: float


@dataclass(frozen=True, slots=True)
class Limits:
    min_s: float
    max_s: float


def refine(
    wish: Span, opening: Room, closing: Room, limits: Limits, sound: Sound, reactions: Sequence[Span], cuts: Cuts
) -> Span:
    """Move both borders of `wish` inside their rooms; a move that would break the length limits is not made."""
    start_s = _border(wish.start_s, opening, sound, cuts)
    if not _fits(start_s, wish.end_s, limits):
        start_s = wish.start_s
    end_wish_s = wish.end_s
    for reaction in reactions:
        if wish.end_s - _QUIET_REACH_S <= reaction.start_s <= wish.end_s + _REACTION_REACH_S / 2:
            end_wish_s = min(reaction.end_s, wish.end_s + _REACTION_REACH_S, closing.latest_s, start_s + limits.max_s)
            end_wish_s = max(end_wish_s, wish.end_s)
    end_s = _border(end_wish_s, closing, sound, cuts)
    for candidate_s in (end_s, end_wish_s, wish.end_s):
        if _fits(start_s, candidate_s, limits):
            return Span(start_s=round(start_s, 3), end_s=round(candidate_s, 3))
    return Span(start_s=round(wish.start_s, 3), end_s=round(wish.end_s, 3))


def _border(wish_s: float, room: Room, sound: Sound, cuts: Cuts) -> float:
    low_s, high_s = max(room.earliest_s, wish_s - _CUT_REACH_S), min(room.latest_s, wish_s + _CUT_REACH_S)
    if low_s >= high_s:
        return min(max(wish_s, room.earliest_s), room.latest_s)
    near = [t for t in cuts(low_s, high_s) if low_s <= t <= high_s]
    if near:
        return min(near, key=lambda t: (abs(t - wish_s), t))
    low_s, high_s = max(low_s, wish_s - _QUIET_REACH_S), min(high_s, wish_s + _QUIET_REACH_S)
    return sound.quietest(low_s, high_s, wish_s)


def _fits(start_s: float, end_s: float, limits: Limits) -> bool:
    return limits.min_s - 1e-6 <= end_s - start_s <= limits.max_s + 1e-6
