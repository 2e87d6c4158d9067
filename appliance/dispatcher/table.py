"""The event table: what each event type starts. One row a type; a type without a row starts nothing.

Actions run after the fact is in the database, in stream order, at least once: each is idempotent (compare-and-set,
message ids, or "already so").
"""

from __future__ import annotations

from typing import Literal

Action = Literal["complete_job", "dead_letter", "sweep_parts", "remove_files"]

ACTIONS: dict[str, tuple[Action, ...]] = {
    #  event type      actions
    "job:analyzed": ("complete_job",),
    "clip:ready": ("complete_job",),
    "clip:failed": ("dead_letter", "complete_job"),
    "job:failed": ("dead_letter", "sweep_parts"),
    "job:completed": ("sweep_parts",),
    "job:cancelled": ("sweep_parts",),
    "job:deleted": ("remove_files",),
}
