"""What uses how much: measured jobs from the table, open ones from the disk."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from appliance.cli import main
from appliance.config import Config
from appliance.storage.measured import JobBytes, record
from appliance.storage.report import report
from appliance.store.database import open_writer
from appliance.store.projection import Projection, StoredFact
from bus.events import Event, FilesPinned, JobDeleted, encode
from bus.ids import new_id
from bus.subjects import event_subject
from tests.unit.appliance import facts


def box(data_dir: Path) -> tuple[str, str]:
    """A measured completed job of 6 MB, an open one with 1 MB on disk, a deleted one; the first two's ids."""
    ended, running, deleted = new_id(), new_id(), new_id()
    life: list[Event] = [facts.created(ended), FilesPinned(job=ended, by="me"), facts.job_failed(ended)]
    life += [facts.created(running), facts.started(running, "download")]
    life += [facts.created(deleted), facts.job_failed(deleted), JobDeleted(job=deleted, by="me")]
    db = open_writer(data_dir / "appliance.db")
    Projection(db).apply([StoredFact(n, event_subject(e), encode(e)) for n, e in enumerate(life, 1)])
    record(db, ended, JobBytes(source_bytes=3_000_000, scratch_bytes=2_000_000, clip_bytes=1_000_000))
    record(db, deleted, JobBytes(source_bytes=10**12))
    db.close()
    part = data_dir / "jobs" / running / ".source.download"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1_000_000)
    return ended, running


def test_every_kind_is_counted_and_the_largest_jobs_come_first(tmp_path: Path) -> None:
    ended, running = box(tmp_path)
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "talk.mp4").write_bytes(b"x" * 50_000)
    found = report(Config(data_dir=tmp_path))
    assert [job.job for job in found.largest] == [ended, running]
    assert found.largest[0].pinned
    assert found.largest[0].bytes.total_bytes == 6_000_000
    assert 4_000_000 <= found.uses["sources"] < 4_100_000
    assert found.uses["clips"] == 1_000_000
    assert found.uses["input"] >= 50_000
    assert found.uses["database"] > 0
    assert found.open_jobs == 1
    assert found.promised_bytes > 0
    assert found.free_bytes <= found.total_bytes


def test_a_folder_without_a_box_has_a_report_too(tmp_path: Path) -> None:
    found = report(Config(data_dir=tmp_path / "none"))
    assert (found.largest, found.open_jobs, found.typical.learned_from) == ([], 0, 0)


def test_the_command_says_it_in_words_and_in_json(tmp_path: Path) -> None:
    ended, _ = box(tmp_path / "data")
    config = tmp_path / "appliance.yaml"
    config.write_text(f"data_dir: {tmp_path / 'data'}\n")
    shown = CliRunner().invoke(main, ["-c", str(config), "storage"])
    assert shown.exit_code == 0, shown.output
    assert f"{ended}  failed        6.0 MB pinned  talk.mp4" in shown.output
    assert "will be needed by 1 open jobs" in shown.output
    told = json.loads(CliRunner().invoke(main, ["-c", str(config), "storage", "--json"]).output)
    assert told["largest"][0]["bytes"]["clip_bytes"] == 1_000_000
    assert told["guard"] is None, "no box runs"
