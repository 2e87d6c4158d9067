"""What each stretch of a shot shows: one person, two, or the whole picture, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from stages.artifacts import Span, Track, Turn

Kind = Literal["one", "group", "pair", "whole"]


SLIVER_S = 1e-3
"""Times nearer than this are the same: less than a frame of anything."""


class Stretch(Struct, frozen=True, kw_only=True):
    """[start_s, end_s) of a shot: who is shown (track ids, left to right for `pair`) and why, in words for people."""

    start_s: float
    end_s: float
    kind: Kind
    tracks: tuple[int, ...]
    reason: str

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


class LayoutRules(Struct, frozen=True, kw_only=True):
    min_shot_s: float
    """No stretch shorter than this, unless its shot is."""
    min_confidence: float
    """Of a turn, for its speaker to be believed."""
    quick_turn_s: float
    """Two people whose turns are all shorter than this are shown together."""
    hold_s: float
    """A face may be away this long before the whole picture is shown."""
    background: float = 0.4
    """Faces smaller than this share of the largest are bystanders unless they speak."""


Fits = Callable[[list[Track], float, float], bool]
"""Whether one window holds all the tracks' faces throughout [start_s, end_s)."""


def stretches(shot: Span, tracks: list[Track], turns: list[Turn], fits: Fits, rules: LayoutRules) -> list[Stretch]:
    """Divide one shot, without gaps. `tracks` and `turns` are the shot's own; the result depends on nothing else."""
    if not tracks:
        return [_whole(shot.start_s, shot.end_s, "no face in this shot: the whole picture")]
    people = _relevant(tracks, turns, rules)
    if len(people) > 1 and _share_the_shot(people, shot) and fits(people, shot.start_s, shot.end_s):
        return [
            Stretch(
                start_s=shot.start_s, end_s=shot.end_s, kind="group", tracks=_left_to_right(people),
                reason=f"{_count(len(people))} faces close together: one frame holds all",
            )
        ]  # fmt: skip
    found = _by_turns(shot, people, turns, rules)
    found = _together_when_quick(found, people, rules)
    return _settle(found, rules)


def _relevant(tracks: list[Track], turns: list[Turn], rules: LayoutRules) -> list[Track]:
    height = {t.id: float(np.median([b.h for b in t.boxes])) for t in tracks}
    largest = max(height.values())
    speak = {turn.track for turn in turns if turn.confidence >= rules.min_confidence}
    return [t for t in tracks if height[t.id] >= rules.background * largest or t.id in speak]


def _share_the_shot(people: list[Track], shot: Span) -> bool:
    """Whether all are in view together for half of the shot: those who come one after the other are cut between."""
    first, last = max(t.boxes[0].t_s for t in people), min(t.boxes[-1].t_s for t in people)
    return last - first >= 0.5 * (shot.end_s - shot.start_s)


def _by_turns(shot: Span, people: list[Track], turns: list[Turn], rules: LayoutRules) -> list[Stretch]:
    known = {t.id for t in people}
    found: list[Stretch] = []
    at = shot.start_s
    for turn in turns:
        if turn.track not in known or turn.end_s <= at + SLIVER_S:
            continue
        start_s = max(turn.start_s, at)
        if start_s > at + SLIVER_S:
            found.append(_away(at, start_s))
            at = start_s
        end_s = min(turn.end_s, shot.end_s)
        found.append(_shown(turn, at, shot.end_s if shot.end_s - end_s <= SLIVER_S else end_s, people, rules))
        at = found[-1].end_s
    if shot.end_s > at:
        found.append(_away(at, shot.end_s))
    return found


def _shown(turn: Turn, start_s: float, end_s: float, people: list[Track], rules: LayoutRules) -> Stretch:
    present = [t for t in people if _presence(t, start_s, end_s) > 0.5]
    if turn.confidence >= rules.min_confidence or len(present) <= 1:
        reason = "one face"
        if len(people) > 1:
            reason = f"{_place(turn.track, present)} speaks (confidence {turn.confidence:.2f})"
        return Stretch(start_s=start_s, end_s=end_s, kind="one", tracks=(turn.track,), reason=reason)
    if len(present) == 2:
        return Stretch(
            start_s=start_s, end_s=end_s, kind="pair", tracks=_left_to_right(present),
            reason="two people far apart and it is unclear who speaks: both are shown",
        )  # fmt: skip
    return _whole(start_s, end_s, f"{_count(len(present))} people and it is unclear who speaks: the whole picture")


def _together_when_quick(found: list[Stretch], people: list[Track], rules: LayoutRules) -> list[Stretch]:
    """Join runs of three or more short turns of the same two people, both in view, into one `pair`."""
    by_id = {t.id: t for t in people}
    joined: list[Stretch] = []
    at = 0
    while at < len(found):
        end = at
        pair: set[int] = set()
        while end < len(found) and found[end].kind == "one" and found[end].length_s < rules.quick_turn_s:
            if len(pair | set(found[end].tracks)) > 2:
                break
            pair |= set(found[end].tracks)
            end += 1
        run = found[at:end]
        both = [by_id[i] for i in pair]
        if len(run) >= 3 and len(both) == 2 and all(
            _presence(t, run[0].start_s, run[-1].end_s) > 0.8 for t in both
        ):  # fmt: skip
            joined.append(
                Stretch(
                    start_s=run[0].start_s, end_s=run[-1].end_s, kind="pair", tracks=_left_to_right(both),
                    reason="two people answer each other quickly: both are shown",
                )
            )  # fmt: skip
            at = end
        else:
            joined.append(found[at])
            at += 1
    return joined


def _settle(found: list[Stretch], rules: LayoutRules) -> list[Stretch]:
    """Join equals, hold through short absences and give stretches that are too short to a neighbour."""
    found = _joined(found)
    while len(found) > 1:
        short = [i for i, s in enumerate(found) if s.length_s < (rules.hold_s if _is_away(s) else rules.min_shot_s)]
        if not short:
            break
        index = min(short, key=lambda i: (found[i].length_s, i))
        takers = [i for i in (index - 1, index + 1) if 0 <= i < len(found)]
        taker = max(takers, key=lambda i: (not _is_away(found[i]), found[i].length_s, -i))
        first, last = sorted((index, taker))
        merged = replace(found[taker], start_s=found[first].start_s, end_s=found[last].end_s)
        found = _joined([*found[:first], merged, *found[last + 1 :]])
    return found


def _joined(found: list[Stretch]) -> list[Stretch]:
    joined: list[Stretch] = []
    for stretch in found:
        last = joined[-1] if joined else None
        if last is not None and (last.kind, last.tracks) == (stretch.kind, stretch.tracks):
            longer = max(last, stretch, key=lambda s: s.length_s)
            joined[-1] = replace(longer, start_s=last.start_s, end_s=stretch.end_s)
        else:
            joined.append(stretch)
    return joined


def _away(start_s: float, end_s: float) -> Stretch:
    return _whole(start_s, end_s, "no face in view for a while: the whole picture")


def _is_away(stretch: Stretch) -> bool:
    return stretch.kind == "whole"


def _whole(start_s: float, end_s: float, reason: str) -> Stretch:
    return Stretch(start_s=start_s, end_s=end_s, kind="whole", tracks=(), reason=reason)


def _presence(track: Track, start_s: float, end_s: float) -> float:
    """Share of [start_s, end_s) within the track's life."""
    lived = min(end_s, track.boxes[-1].t_s) - max(start_s, track.boxes[0].t_s)
    return max(0.0, lived) / max(end_s - start_s, 1e-6)


def _left_to_right(tracks: list[Track]) -> tuple[int, ...]:
    return tuple(t.id for t in sorted(tracks, key=lambda t: (float(np.median([b.x for b in t.boxes])), t.id)))


def _place(track: int, present: list[Track]) -> str:
    """How a person would name somebody in the picture."""
    order = _left_to_right(present)
    places = {2: ("left", "right"), 3: ("left", "middle", "right")}.get(len(order))
    if places is None or track not in order:
        return f"person {track}"
    place = places[order.index(track)]
    return "the person in the middle" if place == "middle" else f"the person on the {place}"


def _count(number: int) -> str:
    return {2: "two", 3: "three", 4: "four", 5: "five"}.get(number, str(number))
