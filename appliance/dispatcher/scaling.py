"""When a stage gets another worker, and when one fewer: a pure rule, told what is and when, without any I/O.

Up by one when tasks wait and every worker of the stage is at work for `up_after_s`, or at once when its queue is at
warning or critical; never past `most`, nor past what processors, memory and graphics memory allow. Down by one when a
worker was not needed for `down_after_s`. A step must show its effect, and `cooldown_s` must have passed, before the
next; so a queue that comes and goes moves nothing, and one burst is one way up and one way down.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from appliance.control.holds import Mode
from bus.events import STAGES, StageName

HEAVY: tuple[StageName, ...] = ("transcribe", "moments", "faces", "crop", "cut")
"""Stages whose workers keep a processor busy; download waits for disks and networks."""
RESERVE_SHARE = 0.15
"""Share of the machine's memory that a further worker leaves free (where the default alert on memory is clear)."""
SHORT_SHARE = 0.05
"""Below this share a worker is given up (where the default alert on memory is critical)."""
GPU_SHORT_SHARE = 0.02
"""The same for a card's memory (where the default alert is critical)."""
UNMEASURED_BYTES = 1024**3
"""What a worker is taken to need before one of its stage was seen at work."""
LOAD_SHARE = 2.0
"""No further heavy worker while the load of the last minute is above this many processes for each processor."""
GPU_SLACK = 1.1
"""Graphics memory that a further worker needs, in measured ones: allocators do not give back at once."""


class StageLoad(Struct, frozen=True, kw_only=True):
    """One stage at one moment."""

    least: int
    most: int
    mode: Mode
    level: Literal["ok", "warning", "critical"]
    """Of its queue."""
    waiting: int
    oldest_s: float
    """How long the first of the waiting has waited; 0 when none waits."""
    in_flight: int
    """Tasks in the hands of workers."""
    present: int
    """Workers that report."""
    rss_bytes: int = 0
    """The most that one of them has in memory now, its running stage included."""
    gpu_bytes: int = 0
    """The same for graphics memory; 0 when none of them uses a card."""


class Machine(Struct, frozen=True, kw_only=True):
    """What there is to share out."""

    cores: int
    load_1m: float
    memory_total_bytes: int
    memory_free_bytes: int
    """What programs can still have."""
    gpu_free_bytes: int | None
    """On the card with the most room; None without a card."""
    gpu_total_bytes: int | None = None
    """Of that card."""


class Step(Struct, frozen=True, kw_only=True):
    """One worker more or fewer, and why."""

    stage: StageName
    before: int
    after: int
    reason: str


class Scaler:
    """`wanted`: workers by stage as last said. `look` says at most one step a stage, and takes it as done."""

    def __init__(
        self,
        wanted: Mapping[StageName, int],
        *,
        up_after_s: float,
        down_after_s: float,
        cooldown_s: float,
    ) -> None:
        self.wanted = dict(wanted)
        self.held_back: dict[StageName, str] = {}
        """Stages that would grow and may not, and why."""
        self._up_after_s = up_after_s
        self._down_after_s = down_after_s
        self._cooldown_s = cooldown_s
        self._pressed_since: dict[StageName, float] = {}
        self._spare_since: dict[StageName, float] = {}
        self._stepped_at: dict[StageName, float] = {}
        self._rss_bytes: dict[StageName, int] = {}
        self._gpu_bytes: dict[StageName, int] = {}

    def look(self, stages: Mapping[StageName, StageLoad], machine: Machine, now: float) -> list[Step]:
        """The steps that are due. `now`: seconds of a monotonic clock."""
        steps: list[Step] = []
        for stage in STAGES:  # in the order of the work: who feeds the others is served first
            load = stages.get(stage)
            if load is None or load.most == 0:
                continue
            self._rss_bytes[stage] = max(load.rss_bytes, self._rss_bytes.get(stage, 0))
            self._gpu_bytes[stage] = max(load.gpu_bytes, self._gpu_bytes.get(stage, 0))
            step = self._look(stage, load, stages, machine, now, growing=any(s.after > s.before for s in steps))
            if step is not None:
                steps.append(step)
                self.wanted[stage] = step.after
                self._stepped_at[stage] = now
                self._pressed_since.pop(stage, None)
                self._spare_since.pop(stage, None)
        return steps

    def _look(
        self,
        stage: StageName,
        load: StageLoad,
        stages: Mapping[StageName, StageLoad],
        machine: Machine,
        now: float,
        *,
        growing: bool,
    ) -> Step | None:
        before = min(max(self.wanted.get(stage, load.least), load.least), load.most)
        self.wanted[stage] = before
        self.held_back.pop(stage, None)
        if load.mode != "run":  # held on purpose: neither pressed nor idle
            self._pressed_since.pop(stage, None)
            self._spare_since.pop(stage, None)
            return None
        pressed = load.waiting > 0 and load.present >= before and load.in_flight >= load.present > 0
        spare = load.waiting == 0 and load.in_flight < before
        pressed_s = _lasts(self._pressed_since, stage, now, holds=pressed)
        spare_s = _lasts(self._spare_since, stage, now, holds=spare)
        if now - self._stepped_at.get(stage, -self._cooldown_s) < self._cooldown_s:
            return None
        if before > load.least and (reason := self._short(stage, machine)) is not None:
            return Step(stage=stage, before=before, after=before - 1, reason=reason)
        if before > load.least and spare and spare_s >= self._down_after_s:
            reason = f"nothing waits, and {before - load.in_flight} of {before} had nothing to do for {spare_s:.0f} s"
            return Step(stage=stage, before=before, after=before - 1, reason=reason)
        urgent = load.level != "ok"
        if before < load.most and pressed and (urgent or pressed_s >= self._up_after_s):
            wall = "another stage grows first" if growing else self._wall(stage, stages, machine)
            if wall is not None:
                self.held_back[stage] = wall
                return None
            why = f"its queue is at {load.level}" if urgent else f"all {before} at work for {pressed_s:.0f} s"
            reason = f"{load.waiting} wait, the first for {load.oldest_s:.0f} s, and {why}"
            return Step(stage=stage, before=before, after=before + 1, reason=reason)
        return None

    def _short(self, stage: StageName, machine: Machine) -> str | None:
        """What the stage takes so much of that it must give some back; None: nothing."""
        free, total = machine.memory_free_bytes, machine.memory_total_bytes
        if stage in HEAVY and free < total * SHORT_SHARE:
            return f"{_gib(free)} of {_gib(total)} memory left"
        free, total = machine.gpu_free_bytes or 0, machine.gpu_total_bytes or 0
        if self._gpu_bytes[stage] and free < total * GPU_SHORT_SHARE:
            return f"{_gib(free)} of {_gib(total)} graphics memory left"
        return None

    def _wall(self, stage: StageName, stages: Mapping[StageName, StageLoad], machine: Machine) -> str | None:
        """What stands against one more worker of the stage; None: nothing."""
        if stage in HEAVY:
            at_work = sum(load.in_flight for name, load in stages.items() if name in HEAVY)
            if at_work >= machine.cores:
                return f"{at_work} workers keep {machine.cores} processors busy"
            if machine.load_1m > machine.cores * LOAD_SHARE:
                return f"the load is {machine.load_1m:.1f} on {machine.cores} processors"
        need = self._rss_bytes[stage] or UNMEASURED_BYTES
        left = machine.memory_free_bytes - need
        if left < machine.memory_total_bytes * RESERVE_SHARE:
            return f"a worker needs {_gib(need)} memory, {_gib(machine.memory_free_bytes)} are left"
        card = self._gpu_bytes[stage]
        if card and (machine.gpu_free_bytes or 0) < card * GPU_SLACK:
            return f"a worker needs {_gib(card)} graphics memory, {_gib(machine.gpu_free_bytes or 0)} are left"
        return None


def _lasts(since: dict[StageName, float], stage: StageName, now: float, *, holds: bool) -> float:
    """Seconds for which `holds` has been true without a break."""
    if not holds:
        since.pop(stage, None)
        return 0.0
    return now - since.setdefault(stage, now)


def _gib(count: int) -> str:
    return f"{count / 1024**3:.1f} GiB"
