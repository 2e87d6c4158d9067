"""Each event that changes a section has that section's key in its row of the event table."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.dispatcher.table import SECTIONS as TABLE_SECTIONS
from appliance.dispatcher.table import TABLE
from appliance.services import dashboard
from appliance.services.manager import STORED
from appliance.services.workers import gone
from appliance.sqlite import sqlite3
from appliance.ssot.cache import KEYS
from appliance.store.projection import Projection, StoredFact
from appliance.store.schema import SCHEMA
from bus.events import (
    CLIP_STAGES,
    JOB_STAGES,
    AlertCleared,
    AlertRaised,
    AnyEvent,
    JobCancelled,
    JobCompleted,
    JobDeleted,
    JobRetried,
    ServiceDown,
    ServiceUp,
    WorkerOffline,
    WorkerOnline,
    encode,
)
from bus.ids import new_id
from bus.subjects import event_subject
from tests.unit.appliance import facts

NOW = facts.START + timedelta(seconds=30)


def _pool() -> list[AnyEvent]:
    job, worker = new_id(), new_id()
    events: list[AnyEvent] = [facts.created(job)]
    for stage in JOB_STAGES:
        events += [facts.started(job, stage), facts.retrying(job, stage, 1), facts.done(job, stage, clips=2)]
    for clip in (1, 2):
        events.append(facts.planned(job, clip))
        for stage in CLIP_STAGES:
            events += [facts.started(job, stage, clip), facts.retrying(job, stage, 1, clip)]
            events.append(facts.done(job, stage, clip))
        events += [facts.clip_failed(job, clip), JobRetried(job=job, clip=clip, by="x", stage="cut")]
    events += [
        JobCompleted(job=job, clips_ready=1, clips_failed=1, seconds=9.0),
        facts.job_failed(job),
        JobCancelled(job=job, by="x"),
        JobRetried(job=job, by="x", stage="download"),
        JobDeleted(job=job, by="x"),
        WorkerOnline(worker=worker, stage="cut", pid=1, host="h"),
        WorkerOffline(worker=worker, stage="cut", reason="killed"),
        AlertRaised(alert="a", severity="critical", message="m"),
        AlertCleared(alert="a", message="m"),
        ServiceUp(service="bus", pid=1),
        ServiceDown(service="bus", reason="killed", restarts=1),
    ]
    return events


POOL = _pool()


def sections(db: sqlite3.Connection) -> dict[str, object]:
    found: dict[str, object] = {name: query(db, NOW) for name, query in STORED.items()}
    return found | {"dashboard": dashboard.stored_part(db, NOW), "agents_workers": gone(db)}


def test_table_and_document_speak_of_the_same_sections() -> None:
    assert set(TABLE_SECTIONS) == KEYS


@settings(max_examples=40, deadline=None)
@given(order=st.permutations(range(1, len(POOL))), until=st.integers(1, len(POOL)))
def test_what_an_event_changes_is_invalidated_by_its_row(order: list[int], until: int) -> None:
    """In any order: late results, retries after the end. Only a job's creation is always first."""
    _check([POOL[0], *(POOL[n] for n in order[:until])])


def test_a_life_in_its_order() -> None:
    _check(POOL)


def _check(events: list[AnyEvent]) -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    db.executescript(SCHEMA)
    projection = Projection(db)
    before = sections(db)
    for seq, event in enumerate(events, 1):
        moved = replace(event, ts=facts.at(seq / 100), id=new_id())
        projection.apply([StoredFact(seq, event_subject(moved), encode(moved))])
        after = sections(db)
        changed = {name for name in after if after[name] != before[name]}
        name = str(event.__struct_config__.tag)
        assert changed <= set(TABLE[name].invalidate), f"{name} changes {changed - set(TABLE[name].invalidate)}"
        before = after
    db.close()
