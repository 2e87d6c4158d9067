"""What a video would become: times from what was measured, and nothing made up."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.config import Config, load
from appliance.plan import Pace, Plan, Tool, paces, plan
from appliance.storage.admission import Room
from appliance.storage.forecast import Forecast
from appliance.store.database import open_writer
from appliance.store.projection import Projection
from bus.events import CLIP_STAGES, JOB_STAGES, STAGES, JobOptions, StageName
from bus.ids import new_id
from stages.artifacts import AudioInfo, Probe, VideoInfo
from tests.unit.appliance import facts
from tests.unit.appliance.test_projection import stored

ROOM = Room(
    fits=True,
    reason="fits",
    forecast=Forecast(source_bytes=1, scratch_bytes=1, clip_bytes=1, total_bytes=3, learned_from=0),
    free_bytes=10,
    promised_bytes=0,
    reserve_bytes=1,
)
PACE: Mapping[StageName, Pace] = {stage: Pace(0.5 if stage in JOB_STAGES else 2.0, 7) for stage in STAGES}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return load(None, {"APPLIANCE_DATA_DIR": str(tmp_path_factory.mktemp("data"))})


def sample(kind: type) -> Any:
    """A struct whose required fields hold something of their type."""
    values: tuple[Any, ...] = (7, "x", 1.0, True, [], {})
    for value in values:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError:
            continue
    if issubclass(kind, msgspec.Struct):
        fields = [field for field in msgspec.structs.fields(kind) if field.required]
        return kind(**{field.name: sample(field.type) for field in fields})
    raise AssertionError(kind)


def probe(duration_s: float) -> Probe:
    video = sample(VideoInfo)
    audio = sample(AudioInfo)
    return Probe(
        container="mp4", size_bytes=99, sha256="", start_s=0.0, duration_s=duration_s, video=video, audio=audio
    )


def planned(config: Config, **changes: Any) -> Plan:
    given: dict[str, Any] = {
        "probe": probe(600.0),
        "size_bytes": 99,
        "pace": PACE,
        "tools": {},
        "hindrances": [],
        "same": [],
    }
    room = changes.pop("room", ROOM)
    options = changes.pop("options", JobOptions(clips=4, min_length_s=20.0, max_length_s=40.0))
    return plan("talk.mp4", config, options, room, **(given | changes))


def test_times_are_those_that_were_measured(config: Config) -> None:
    found = planned(config)
    assert found.taken
    assert (found.clips, found.clip_s) == (4, 30.0)
    assert {row.stage: (row.runs, row.seconds) for row in found.stages} == {
        **dict.fromkeys(JOB_STAGES, (1, 300.0)),
        **dict.fromkeys(CLIP_STAGES, (4, 60.0)),
    }
    assert found.first_clip_s == 3 * 300.0 + 3 * 60.0
    workers = config.workers
    slowest_s = max(60.0 / max(1, getattr(workers, stage).min) for stage in CLIP_STAGES)
    assert found.total_s == found.first_clip_s + 3 * slowest_s


def test_what_was_never_done_has_no_forecast(config: Config) -> None:
    found = planned(config, pace={stage: PACE[stage] for stage in STAGES if stage != "faces"})
    assert {row.stage: row.seconds for row in found.stages}["faces"] is None
    assert (found.first_clip_s, found.total_s) == (None, None)
    unknown = planned(config, probe=None, size_bytes=None)
    assert [row.seconds for row in unknown.stages] == [None, None, None, 60.0, 60.0, 60.0]
    assert (unknown.duration_s, unknown.size_bytes) == (None, None)


def test_what_hinders_is_named(config: Config) -> None:
    full = msgspec.structs.replace(ROOM, fits=False, reason="the disk has no room")
    found = planned(config, room=full, hindrances=["intake is paused"])
    assert (found.taken, found.hindrances) == (False, ["intake is paused", "the disk has no room"])


def test_tools_stand_with_their_stage(config: Config) -> None:
    found = planned(config, tools={"cut": Tool("libx264 (cpu)", ["encoded on the CPU"])})
    assert {row.stage: (row.uses, row.notes) for row in found.stages if row.uses} == {
        "cut": ("libx264 (cpu)", ["encoded on the CPU"])
    }


def test_paces_are_of_the_last_month(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "appliance.db")
    job = new_id()
    life = [facts.created(job), facts.done(job, "download"), facts.done(job, "transcribe")]
    Projection(connection).apply(stored(life))
    assert paces(connection, facts.at(0)) == {"download": Pace(2.0 / 60.0, 1), "transcribe": Pace(2.0 / 60.0, 1)}
    assert paces(connection, facts.at(0) + timedelta(days=40)) == {}
    connection.close()
