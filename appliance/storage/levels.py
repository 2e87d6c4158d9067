"""How full the data volume is, in three levels with hysteresis. Pure."""

from __future__ import annotations

from typing import Literal

from appliance.storage.volume import Marks

Level = Literal["open", "closed", "full"]
"""`open`: jobs are taken. `closed`: no new ones, what runs goes on. `full`: no stage takes anything new either."""


def level_after(before: Level, free_bytes: int, marks: Marks) -> Level:
    """The level with this much free, after it was at `before`.

    Down at once when a mark is passed. Up from `closed` when `resume_bytes` are free, up from `full` when twice
    `full_bytes` and what the ballast takes are.
    """
    if free_bytes < marks.full_bytes:
        return "full"
    if before == "full" and free_bytes < 2 * marks.full_bytes + marks.ballast_bytes:
        return "full"
    if free_bytes < marks.floor_bytes:
        return "closed"
    if before != "open" and free_bytes < marks.resume_bytes:
        return "closed"
    return "open"
