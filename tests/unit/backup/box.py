"""A data folder as a box leaves it, made from facts without a bus."""

from __future__ import annotations

from pathlib import Path

import msgspec

from appliance.config import Config, load
from appliance.store.database import open_writer
from appliance.store.failures import prepare
from appliance.store.projection import Projection, StoredFact
from bus.events import AnyEvent, JobDeleted
from bus.ids import new_id
from bus.subjects import event_subject
from tests.unit.appliance import facts


def stored(events: list[AnyEvent], after: int = 0) -> list[StoredFact]:
    return [
        StoredFact(after + number, event_subject(event), msgspec.json.encode(event))
        for number, event in enumerate(events, 1)
    ]


class Box:
    """One finished job with a clip, one that was interrupted after its transcript, one that was deleted."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        self.config_file = folder / "appliance.yaml"
        self.config_file.write_text(f"data_dir: {self.data}\nnotify: {{urls: ['json://user:secret@host/']}}\n")
        self.config: Config = load(self.config_file, {})
        self.done, self.open, self.gone = new_id(), new_id(), new_id()
        events: list[AnyEvent] = []
        for job in (self.done, self.open, self.gone):
            events += [facts.created(job), facts.started(job, "download"), facts.done(job, "download")]
            events += [facts.started(job, "transcribe"), facts.done(job, "transcribe")]
        events += [facts.done(self.done, "moments"), facts.planned(self.done, 1), facts.done(self.done, "cut", 1)]
        events += [facts.job_failed(self.done, "moments"), JobDeleted(job=self.gone, by="me")]
        connection = open_writer(self.data / "appliance.db")
        prepare(connection)
        projection = Projection(connection)
        projection.set_meta("epoch", "2026-01-01T00:00:00Z")
        projection.apply(stored(events))
        connection.close()
        self.facts = len(events)
        self.files = {
            f"output/{self.done}/clip-01.mp4": b"\x00clip" * 50_000,
            f"output/{self.done}/clip-01.srt": b"1\n00:00 words\n",
            f"output/{self.gone}/clip-01.mp4": b"of a deleted job",
            f"jobs/{self.done}/source.mp4": b"finished source",
            f"jobs/{self.done}/transcript.json": b"{}",
            f"jobs/{self.open}/source.mp4": b"open source" * 1000,
            f"jobs/{self.open}/transcript.json": b'{"version": 1}',
            f"jobs/{self.open}/clips/1/faces.json": b"{}",
            f"jobs/{self.open}/.moments.json.1.part": b"half",
            f"jobs/{self.open}/job.log": b"log",
            "run/alert-orders.json": b'{"version": 1}',
            "nats/secrets.json": b"{}",
            "logs/bus.log": b"log",
        }
        for name, data in self.files.items():
            path = self.data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
