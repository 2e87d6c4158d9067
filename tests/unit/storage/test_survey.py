"""What is short, and what would go for it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.errors import SourceUnavailable
from appliance.storage import report as reporting
from appliance.storage import survey as module
from appliance.storage.measured import JobBytes, record
from appliance.storage.report import report
from appliance.storage.settings import Admission, Retention
from appliance.storage.survey import LEAVING, survey
from appliance.storage.volume import Volume
from appliance.store.database import open_writer
from appliance.store.projection import Projection, StoredFact
from bus.events import Event, FileDeleted, encode
from bus.ids import new_id
from bus.subjects import event_subject
from tests.unit.appliance import facts

MB = 1_000_000
ROOMY = Admission(reserve_bytes=0, floor_bytes=0, full_bytes=0, ballast_bytes=0)


def test_what_is_being_removed_is_not_made_up_for_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the first sweep are still there when the second one looks."""
    first, second = sorted((new_id(), new_id()))
    config = Config(data_dir=tmp_path, admission=ROOMY, retention=Retention(keep_jobs=0, free_bytes=10 * MB))
    monkeypatch.setattr(module, "measure", lambda _path: Volume(total_bytes=100 * MB, free_bytes=7 * MB))
    now = datetime.now(UTC)
    said: Event = FileDeleted(job=first, path=f"jobs/{first}", kind="scratch", size_bytes=5 * MB, reason="short")
    life: list[Event] = [facts.created(first), facts.completed(first, ended_at=now)]
    life += [facts.created(second), facts.completed(second, ended_at=now)]
    db = open_writer(tmp_path / "appliance.db")
    projection = Projection(db)
    projection.apply([StoredFact(n, event_subject(e), encode(e)) for n, e in enumerate(life, 1)])
    for job in (first, second):
        record(db, job, JobBytes(scratch_bytes=5 * MB))
    before = survey(config, now)
    assert (before.short_bytes, [removal.job for removal in before.removals]) == (3 * MB, [first])

    projection.apply([StoredFact(9, event_subject(said), encode(said))])
    meanwhile = survey(config, now)
    assert (meanwhile.short_bytes, meanwhile.removals, meanwhile.enough) == (0, [], True)
    for_ever = survey(config, datetime.now(UTC) + LEAVING)
    assert [removal.job for removal in for_ever.removals] == [second], "what cannot be removed makes no room"
    db.close()


def test_a_database_that_does_not_answer_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_writer(tmp_path / "appliance.db").close()
    config = Config(data_dir=tmp_path)
    assert report(config).largest == []
    monkeypatch.setattr(reporting, "SUMS", "SELECT * FROM jobs_that_answer")
    with pytest.raises(SourceUnavailable, match="what jobs take is unknown"):
        report(config)
    monkeypatch.setattr(module, "ENDED", "SELECT * FROM jobs_that_answer")
    with pytest.raises(SourceUnavailable, match="what may be removed is unknown"):
        survey(config)
