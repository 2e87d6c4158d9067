"""Frames the shots of one clip: which layout for which stretch, and where each window is. Pure and deterministic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stages.artifacts import CropKey, Faces, Layout, Pane, ShotPlan, Span, Track
from stages.vision.framing import (
    WIDEST_NEED,
    FrameRules,
    Picture,
    Window,
    plan_window,
    subject,
    widest,
    window_size,
)
from stages.vision.layout import LayoutRules, Stretch, stretches

if TYPE_CHECKING:
    from stages.crop import Options

PANE_FACE = 0.4
"""Height of a face in a pane of two, share of the pane."""
NEARLY_ALL = 0.9
"""When the widest window shows this much of the picture, nothing is gained by showing all of it over a blur."""


class Planner:
    """Frames one shot after another; what it could not do well is in `notes`."""

    def __init__(self, faces: Faces, options: Options) -> None:
        self._faces = faces
        self._picture = Picture(width=faces.width, height=faces.height)
        self._output = Picture(width=options.width, height=options.height)
        self._options = options
        self._frame = FrameRules(
            margin=options.margin, headroom=options.headroom, max_speed=options.max_speed, comfort=options.comfort,
            max_upscale=options.max_upscale, small_face=options.small_face, good_face=options.good_face,
        )  # fmt: skip
        self._layout = LayoutRules(
            min_shot_s=options.min_shot_s, min_confidence=options.min_confidence,
            quick_turn_s=options.quick_turn_s, hold_s=options.hold_s,
        )  # fmt: skip
        self.notes: list[str] = []

    def shot(self, number: int, shot: Span) -> list[ShotPlan]:
        """The framing of shot `number`: its stretches in order, without gaps."""
        tracks = [t for t in self._faces.tracks if t.shot == number]
        ids = {t.id for t in tracks}
        turns = [t for t in self._faces.turns if t.track in ids]
        by_id = {t.id: t for t in tracks}
        return [
            self._stretch(stretch, [by_id[i] for i in stretch.tracks])
            for stretch in stretches(shot, tracks, turns, self._fits, self._layout)
        ]

    def _fits(self, tracks: list[Track], start_s: float, end_s: float) -> bool:
        seen = subject(tracks, start_s, end_s)
        if seen is None:
            return False
        width, _ = widest(self._picture, self._output)
        need = seen.right - seen.left + 2 * self._options.margin * seen.face_width
        return bool(np.nanmax(need) <= WIDEST_NEED * width)

    def _stretch(self, stretch: Stretch, tracks: list[Track]) -> ShotPlan:
        if stretch.kind == "pair":
            pair = self._pair(stretch, tracks)
            if pair is not None:
                return pair
        elif stretch.kind != "whole":
            one = self._one(stretch, tracks)
            if one is not None:
                return one
        return self._whole(stretch)

    def _one(self, stretch: Stretch, tracks: list[Track]) -> ShotPlan | None:
        seen = subject(tracks, stretch.start_s, stretch.end_s)
        if seen is None:
            return None
        rules = self._frame
        size = window_size(
            self._picture, self._output, seen.face_height,
            small_face=rules.small_face, good_face=rules.good_face, max_upscale=rules.max_upscale,
        )  # fmt: skip
        if stretch.kind == "group":
            size = widest(self._picture, self._output)
        window = plan_window(seen, self._picture, size, rules)
        self._note_overrun(stretch, window)
        layout: Layout = "still" if window.still else "follow"
        movement = "seated: camera still" if window.still else "moving: camera follows"
        tight = (
            ", small in the picture: closer frame" if size[1] < 0.99 * widest(self._picture, self._output)[1] else ""
        )
        return _plan(stretch, layout, [Pane(top=0.0, height=1.0, keys=window.keys)], f"{movement}{tight}")

    def _pair(self, stretch: Stretch, tracks: list[Track]) -> ShotPlan | None:
        pane = Picture(width=self._output.width, height=self._output.height // 2)
        panes: list[Pane] = []
        still = True
        for index, track in enumerate(tracks):
            seen = subject([track], stretch.start_s, stretch.end_s)
            if seen is None:
                return None
            size = window_size(
                self._picture, pane, seen.face_height,
                small_face=PANE_FACE, good_face=PANE_FACE, max_upscale=self._frame.max_upscale,
            )  # fmt: skip
            window = plan_window(seen, self._picture, size, self._frame)
            self._note_overrun(stretch, window)
            still = still and window.still
            panes.append(Pane(top=index / 2, height=0.5, keys=window.keys))
        return _plan(stretch, "stack", panes, "both still" if still else "cameras follow")

    def _whole(self, stretch: Stretch) -> ShotPlan:
        width, height = widest(self._picture, self._output)
        picture = self._picture
        if width * height >= NEARLY_ALL * picture.width * picture.height:
            key = CropKey(
                t_s=stretch.start_s, x=(picture.width - width) / 2, y=(picture.height - height) / 2, w=width, h=height
            )
            pane = Pane(top=0.0, height=1.0, keys=[key])
            return _plan(stretch, "still", [pane], "which already has the output's shape")
        share = self._output.width * picture.height / picture.width / self._output.height
        if share > 1.0:  # taller than the output: a pane spans the full width, so the window takes what fits
            key = CropKey(t_s=stretch.start_s, x=0.0, y=(picture.height - height) / 2, w=width, h=height)
            return _plan(stretch, "still", [Pane(top=0.0, height=1.0, keys=[key])], "cut to the output's height")
        key = CropKey(t_s=stretch.start_s, x=0.0, y=0.0, w=float(picture.width), h=float(picture.height))
        return _plan(stretch, "fit", [Pane(top=(1 - share) / 2, height=share, keys=[key])], "over a blurred fill")

    def _note_overrun(self, stretch: Stretch, window: Window) -> None:
        if window.overrun >= 1.0:
            self.notes.append(
                f"{stretch.start_s:.2f}-{stretch.end_s:.2f} s: a face is up to {window.overrun:.0f} px outside its "
                "frame, because it moves faster than the camera may (stages.crop.max_speed)"
            )


def _plan(stretch: Stretch, layout: Layout, panes: list[Pane], how: str) -> ShotPlan:
    return ShotPlan(
        start_s=stretch.start_s, end_s=stretch.end_s, layout=layout, panes=panes, reason=f"{stretch.reason}, {how}"
    )
