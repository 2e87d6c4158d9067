"""Who counts as frozen, by the watcher's own clock."""

from __future__ import annotations

from datetime import UTC, datetime

from appliance.control.frozen import FROZEN, FrozenWatch
from bus.registry import WorkerState

THEN = datetime(2026, 1, 1, tzinfo=UTC)


def state(worker: str = "w", progress: float = 0.5, job: str | None = "j", clip: int | None = 2) -> WorkerState:
    return WorkerState(
        worker=worker,
        stage="cut",
        pid=1,
        host="h",
        started_at=THEN,
        job=job,
        clip=clip,
        progress=progress,
        progress_at=THEN,  # as old as can be: the watcher's clock counts
    )


def test_only_who_stands_still_with_work_in_hand_past_stall_and_margin_is_frozen() -> None:
    watch = FrozenWatch({"cut": 10.0}, margin_s=5.0)
    assert watch.look([state(), state("idle", job=None)], 100.0) == {}
    assert watch.look([state(), state("idle", job=None)], 115.0) == {}
    found = watch.look([state(), state("idle", job=None), state("new")], 115.1)
    assert found == {"w": f"{FROZEN}: it reports, but has not got on with job j clip 2 for 15 s"}


def test_any_movement_begins_anew() -> None:
    watch = FrozenWatch({"cut": 10.0}, margin_s=5.0)
    watch.look([state()], 0.0)
    watch.look([state(progress=0.6)], 14.0)
    assert watch.look([state(progress=0.6)], 28.0) == {}
    watch.look([state(progress=0.6, clip=3)], 28.5)
    assert watch.look([state(progress=0.6, clip=3)], 43.0) == {}
    watch.look([], 43.1)
    assert watch.look([state(progress=0.6, clip=3)], 44.0) == {}, "it was away"
    assert list(watch.look([state(progress=0.6, clip=3)], 60.0)) == ["w"]


def test_a_stage_without_a_limit_is_not_watched() -> None:
    watch = FrozenWatch({}, margin_s=5.0)
    watch.look([state()], 0.0)
    assert watch.look([state()], 1e6) == {}
