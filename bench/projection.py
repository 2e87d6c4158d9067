"""Facts into SQLite per second: `python -m bench.projection [--jobs 300] [--json]`.

The same facts of whole job lives (18 a job), from memory, three ways in one run on a database file each:

* ours: `Projection.apply` in batches of 256, rows and cursor in one transaction, synchronous as in production;
* one by one: the same code with a transaction for each fact, which is what a consumer that acknowledges each does;
* floor: the bare INSERT into the audit trail alone, same batches, no decoding and no rows.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from appliance.store.database import journal_mode, open_writer
from appliance.store.projection import Projection, StoredFact
from bus.events import AnyEvent, encode
from bus.ids import new_id
from bus.subjects import event_subject
from tests.unit.appliance import facts

BATCH = 256
TARGET_PER_S = 3000


def lives(jobs: int) -> list[StoredFact]:
    events: list[AnyEvent] = []
    for _ in range(jobs):
        job = new_id()
        events.append(facts.created(job))
        for stage in ("download", "transcribe", "moments"):
            events += [facts.started(job, stage), facts.done(job, stage, clips=2)]
        for clip in (1, 2):
            events.append(facts.planned(job, clip))
            events += [facts.done(job, stage, clip) for stage in ("faces", "crop")]
            events += [facts.started(job, "cut", clip), facts.done(job, "cut", clip)]
    return [StoredFact(n, event_subject(event), encode(event)) for n, event in enumerate(events, 1)]


def per_second(stored: list[StoredFact], run: Callable[[Projection, list[StoredFact]], None], batch: int) -> float:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        connection = open_writer(Path(folder) / "appliance.db")
        projection = Projection(connection)
        began = time.perf_counter()
        for start in range(0, len(stored), batch):
            run(projection, stored[start : start + batch])
        seconds = time.perf_counter() - began
        connection.close()
    return len(stored) / seconds


def project(projection: Projection, batch: list[StoredFact]) -> None:
    projection.apply(batch)


def only_insert(projection: Projection, batch: list[StoredFact]) -> None:
    projection.connection.execute("BEGIN IMMEDIATE")
    projection.connection.executemany(
        "INSERT INTO events VALUES (?, ?, 'x', 'x', NULL, NULL, ?, ?)",
        [(fact.seq, str(fact.seq), fact.subject, fact.data) for fact in batch],
    )
    projection.connection.execute("COMMIT")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    stored = lives(arguments.jobs)
    ours = per_second(stored, project, BATCH)
    single = per_second(stored[:1500], project, 1)
    floor = per_second(stored, only_insert, BATCH)
    told = {
        "facts": len(stored),
        "journal": journal_mode(),
        "projected_per_s": round(ours),
        "one_by_one_per_s": round(single),
        "insert_floor_per_s": round(floor),
        "ratio_to_one_by_one": round(ours / single, 2),
        "ratio_to_floor": round(ours / floor, 2),
        "target_per_s": TARGET_PER_S,
    }
    if arguments.json:
        print(json.dumps(told, indent=1))
    else:
        print(f"{told['facts']} facts, journal {told['journal']}")
        print(f"  projected          {ours:8.0f}/s   (target {TARGET_PER_S}/s)")
        print(f"  one by one         {single:8.0f}/s   ratio {ours / single:.2f}")
        print(f"  bare insert, floor {floor:8.0f}/s   ratio {ours / floor:.2f}")
    return 0 if ours >= TARGET_PER_S else 1


if __name__ == "__main__":
    sys.exit(main())
