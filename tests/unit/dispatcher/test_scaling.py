"""Scaling as a pure rule: when up, when down, what stands against it, and that nothing flaps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dispatcher.scaling import UNMEASURED_BYTES, Machine, Scaler, StageLoad, Step
from bus.events import StageName

GIB = 1024**3
ROOMY = Machine(cores=8, load_1m=1.0, memory_total_bytes=64 * GIB, memory_free_bytes=48 * GIB, gpu_free_bytes=None)
UP_S, DOWN_S, COOL_S = 10.0, 60.0, 5.0


def scaler(**wanted: int) -> Scaler:
    return Scaler(wanted, up_after_s=UP_S, down_after_s=DOWN_S, cooldown_s=COOL_S)  # type: ignore[arg-type]


def load(**changes: Any) -> StageLoad:
    fields: dict[str, Any] = {"least": 1, "most": 3, "mode": "run", "level": "ok", "waiting": 0, "oldest_s": 0.0}
    fields |= {"in_flight": 0, "present": 1}
    return StageLoad(**{**fields, **changes})


def busy(workers: int = 1, **changes: Any) -> StageLoad:
    return load(waiting=19, oldest_s=12.0, in_flight=workers, present=workers, **changes)


def machine(**changes: Any) -> Machine:
    fields = {name: getattr(ROOMY, name) for name in ROOMY.__struct_fields__}
    return Machine(**{**fields, **changes})


def steps(found: list[Step]) -> list[tuple[str, int, int]]:
    return [(step.stage, step.before, step.after) for step in found]


def test_all_at_work_for_long_enough_brings_one_more() -> None:
    rule = scaler()
    assert rule.look({"cut": busy()}, ROOMY, 0.0) == []
    assert rule.look({"cut": busy()}, ROOMY, UP_S - 0.1) == []
    (step,) = rule.look({"cut": busy()}, ROOMY, UP_S)
    assert (step.before, step.after) == (1, 2)
    assert step.reason == "19 wait, the first for 12 s, and all 1 at work for 10 s"


def test_a_pause_in_the_pressure_begins_anew() -> None:
    rule = scaler()
    rule.look({"cut": busy()}, ROOMY, 0.0)
    rule.look({"cut": load(in_flight=1)}, ROOMY, 9.0)
    assert rule.look({"cut": busy()}, ROOMY, 11.0) == []
    assert rule.look({"cut": busy()}, ROOMY, 20.9) == []
    assert steps(rule.look({"cut": busy()}, ROOMY, 21.0)) == [("cut", 1, 2)]


@pytest.mark.parametrize("level", ["warning", "critical"])
def test_a_long_queue_brings_one_at_once_and_the_next_when_that_one_works(level: str) -> None:
    rule = scaler()
    (step,) = rule.look({"cut": busy(level=level)}, ROOMY, 0.0)
    assert step.reason.endswith(f"and its queue is at {level}")
    assert rule.look({"cut": busy(level=level)}, ROOMY, 100.0) == [], "the second is not there yet"
    assert steps(rule.look({"cut": busy(2, level=level)}, ROOMY, 101.0)) == [("cut", 2, 3)]
    assert rule.look({"cut": busy(3, level=level)}, ROOMY, 200.0) == [], "never past the most"


def test_workers_that_are_there_but_take_nothing_are_not_helped_by_more() -> None:
    rule = scaler()
    for now in range(0, 200, 5):
        assert rule.look({"cut": load(waiting=9)}, ROOMY, now) == []


def test_down_by_one_for_each_time_of_rest() -> None:
    rule = scaler(cut=3)
    rest = load(present=3)
    assert rule.look({"cut": rest}, ROOMY, 0.0) == []
    assert rule.look({"cut": rest}, ROOMY, DOWN_S - 1) == []
    (step,) = rule.look({"cut": rest}, ROOMY, DOWN_S)
    assert (step.after, step.reason) == (2, "nothing waits, and 3 of 3 had nothing to do for 60 s")
    assert rule.look({"cut": rest}, ROOMY, DOWN_S + 1) == []
    assert steps(rule.look({"cut": rest}, ROOMY, 2 * DOWN_S + 1)) == [("cut", 2, 1)]
    assert rule.look({"cut": rest}, ROOMY, 10 * DOWN_S) == [], "never below the least"


def test_a_stage_that_is_held_is_neither_pressed_nor_idle() -> None:
    rule = scaler(cut=2)
    for now in (0.0, 100.0, 200.0):
        assert rule.look({"cut": busy(2, mode="pause", level="critical")}, ROOMY, now) == []
        assert rule.look({"cut": load(mode="drain", present=0)}, ROOMY, now + 1) == []
    assert rule.look({"cut": busy(2)}, ROOMY, 201.0) == [], "what was before the hold does not count"


@pytest.mark.parametrize(
    ("stage", "here", "what", "told"),
    [
        ("cut", {"cores": 1}, {}, "1 workers keep 1 processors busy"),
        ("cut", {"load_1m": 16.1}, {}, "the load is 16.1 on 8 processors"),
        ("cut", {"memory_free_bytes": 11 * GIB}, {"rss_bytes": 2 * GIB}, "a worker needs 2.0 GiB memory, 11.0 GiB"),
        ("cut", {"memory_free_bytes": 10 * GIB}, {}, "a worker needs 1.0 GiB memory, 10.0 GiB are left"),
        ("cut", {"gpu_free_bytes": 4 * GIB}, {"gpu_bytes": 4 * GIB}, "a worker needs 4.0 GiB graphics memory"),
        ("cut", {"gpu_free_bytes": None}, {"gpu_bytes": 4 * GIB}, "a worker needs 4.0 GiB graphics memory, 0.0"),
        ("download", {"memory_free_bytes": 10 * GIB}, {}, "a worker needs 1.0 GiB memory"),
    ],
)
def test_the_machine_stands_against_it_and_it_is_said_why(
    stage: StageName, here: dict[str, Any], what: dict[str, Any], told: str
) -> None:
    rule = scaler()
    for now in (0.0, 50.0, 100.0):
        assert rule.look({stage: busy(level="critical", **what)}, machine(**here), now) == []
        assert rule.held_back[stage].startswith(told)
    assert steps(rule.look({stage: busy(level="critical", **what)}, machine(gpu_free_bytes=40 * GIB), 101.0))
    assert rule.held_back == {}


def test_processors_are_shared_by_all_heavy_stages_but_downloads_wait_for_the_network() -> None:
    two = machine(cores=2, load_1m=100.0)
    both = {"faces": busy(level="warning"), "cut": busy(level="warning"), "download": busy(level="warning")}
    found = scaler().look(both, two, 0.0)  # type: ignore[arg-type]
    assert steps(found) == [("download", 1, 2)]


def test_one_stage_grows_at_a_time() -> None:
    rule = scaler()
    both: dict[StageName, StageLoad] = {"faces": busy(level="warning"), "cut": busy(level="warning")}
    assert steps(rule.look(both, ROOMY, 0.0)) == [("faces", 1, 2)]
    assert steps(rule.look({**both, "faces": busy(2)}, ROOMY, 3.0)) == [("cut", 1, 2)]


def test_the_most_that_was_measured_is_what_a_worker_needs() -> None:
    rule = scaler()
    rule.look({"cut": busy(rss_bytes=30 * GIB)}, ROOMY, 0.0)
    assert rule.look({"cut": busy(rss_bytes=1)}, machine(memory_free_bytes=38 * GIB), UP_S) == []
    assert "30.0 GiB" in rule.held_back["cut"]
    assert UNMEASURED_BYTES == GIB


def test_when_memory_runs_out_one_leaves_although_there_is_work() -> None:
    rule = scaler(cut=3)
    out = machine(memory_free_bytes=3 * GIB)
    (step,) = rule.look({"cut": busy(3)}, out, 0.0)
    assert (step.after, step.reason) == (2, "3.0 GiB of 64.0 GiB memory left")
    assert rule.look({"cut": busy(2)}, out, COOL_S - 1) == []
    assert steps(rule.look({"cut": busy(2)}, out, COOL_S)) == [("cut", 2, 1)]
    assert rule.look({"cut": busy(1)}, out, 3 * COOL_S) == []


def test_when_the_card_is_full_one_of_those_who_use_it_leaves() -> None:
    full = machine(gpu_free_bytes=GIB, gpu_total_bytes=80 * GIB)
    both: dict[StageName, StageLoad] = {"faces": busy(2, gpu_bytes=20 * GIB), "crop": busy(2)}
    (step,) = scaler(faces=2, crop=2).look(both, full, 0.0)
    assert (step.stage, step.after, step.reason) == ("faces", 1, "1.0 GiB of 80.0 GiB graphics memory left")


def test_what_was_said_before_is_brought_within_the_bounds_of_now() -> None:
    rule = scaler(cut=9, faces=0)
    rule.look({"cut": load(), "faces": load(least=2)}, ROOMY, 0.0)
    assert rule.wanted == {"cut": 3, "faces": 2}


def test_a_stage_that_the_box_does_not_run_is_left_alone() -> None:
    rule = scaler()
    assert rule.look({"cut": busy(least=0, most=0, level="critical")}, ROOMY, 100.0) == []
    assert rule.wanted == {}


def test_twenty_jobs_are_one_way_up_and_one_way_down() -> None:
    rule, left, now, changes = scaler(), 20, 0.0, []
    while now < 600:
        workers = rule.wanted.get("cut", 1)
        in_flight = min(workers, left)
        here = load(waiting=left - in_flight, oldest_s=now, in_flight=in_flight, present=workers)
        changes += [step.after for step in rule.look({"cut": here}, ROOMY, now)]
        left -= in_flight if int(now) % 12 == 0 else 0  # each takes 12 s
        now += 3.0
    assert changes == [2, 3, 2, 1]


LOADS = st.builds(
    load,
    waiting=st.integers(0, 5),
    in_flight=st.integers(0, 4),
    present=st.integers(0, 4),
    level=st.sampled_from(["ok", "warning", "critical"]),
    mode=st.sampled_from(["run", "run", "run", "pause", "drain"]),
    rss_bytes=st.integers(0, 2 * GIB),
)
MACHINES = st.builds(
    machine, cores=st.integers(1, 4), load_1m=st.floats(0, 10), memory_free_bytes=st.integers(0, 64 * GIB)
)


@given(st.lists(st.tuples(LOADS, MACHINES, st.floats(0.0, 30.0)), max_size=60))
def test_whatever_comes_steps_are_single_within_bounds_and_apart(
    looks: list[tuple[StageLoad, Machine, float]],
) -> None:
    rule, now, last, at = scaler(), 0.0, 1, -COOL_S
    for here, machine_now, pause_s in looks:
        now += pause_s
        for step in rule.look({"cut": here}, machine_now, now):
            assert step.before == last
            assert abs(step.after - step.before) == 1
            assert here.least <= step.after <= here.most
            assert now - at >= COOL_S
            assert here.mode == "run"
            if step.after > step.before:
                assert here.waiting > 0
                assert here.in_flight >= here.present >= step.before
            last, at = step.after, now
