"""`appliance events table|failed|replay|discard` and the dispatcher's health in `appliance status`."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from appliance.cli import main
from appliance.dispatcher.table import TABLE
from appliance.supervisor.lock import lock_box
from bus.events import AnyEvent, JobCancelled
from bus.ids import new_id
from tests.integration.appliance.dispatching import dispatcher, failures
from tests.integration.conftest import NatsBox


@pytest.fixture
def config(nats: NatsBox, tmp_path: Path) -> Iterator[Path]:
    """The configuration of a box that, for the commands, is up."""
    path = tmp_path / "appliance.yaml"
    minima = ", ".join(
        f"{stage}: {{min: 0}}" for stage in ("download", "transcribe", "moments", "faces", "crop", "cut")
    )
    path.write_text(f"data_dir: {nats.data_dir}\nworkers: {{{minima}}}\n")
    (nats.data_dir / "run").mkdir(exist_ok=True)
    lock = lock_box(nats.data_dir)
    yield path
    os.close(lock)


async def appliance(config: Path, *argv: str) -> Result:
    result = await asyncio.to_thread(CliRunner().invoke, main, ["-c", str(config), *argv])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


async def given_up(nats: NatsBox, count: int) -> None:
    async with asyncio.timeout(10):
        while [row.next_try_at for row in await failures(nats)] != [None] * count:
            await asyncio.sleep(0.01)


async def test_failed_actions_are_listed_replayed_and_dropped(nats: NatsBox, config: Path) -> None:
    bus = await nats.bus("supervisor")
    works = False

    async def sweep(event: AnyEvent) -> None:
        if not works:
            raise OSError("the disk says no")

    async with dispatcher(nats, faults={"sweep_parts": sweep}):
        shown = await appliance(config, "events", "failed")
        assert (shown.output, shown.exit_code) == ("no action has failed\n", 0)
        for count in (1, 2, 3):
            await bus.publish(JobCancelled(job=new_id(), by="me"))
            await given_up(nats, count)
        shown = await appliance(config, "events", "failed", "--json")
        rows = [json.loads(line) for line in shown.output.splitlines()]
        assert [(row["id"], row["action"], row["attempts"]) for row in rows] == [
            (n, "sweep_parts", 4) for n in (1, 2, 3)
        ]
        shown = await appliance(config, "events", "failed")
        assert "given up" in shown.output
        assert "OSError: the disk says no" in shown.output

        status = await appliance(config, "status")
        assert status.exit_code == 1
        assert "3 actions failed for good: look at `appliance events failed`" in status.output
        assert "failed actions: 0 tried again, 3 given up" in status.output

        again = await appliance(config, "events", "replay", "2")
        assert again.exit_code == 1
        assert "0 done, 1 failed again, 0 still waiting" in again.output
        await given_up(nats, 3)
        works = True
        done = await appliance(config, "events", "replay", "2")
        assert (done.output, done.exit_code) == ("1 done, 0 failed again, 0 still waiting\n", 0)
        dropped = await appliance(config, "events", "discard", "1")
        assert (dropped.output, dropped.exit_code) == ("1 dropped\n", 0)
        done = await appliance(config, "events", "replay", "--all")
        assert (done.output, done.exit_code) == ("1 done, 0 failed again, 0 still waiting\n", 0)

        status = await appliance(config, "status", "--json")
        found = json.loads(status.output)
        assert (found["verdict"], status.exit_code) == ("ok", 0), found
        health = found["dispatcher"]
        assert (health["lag_events"], health["actions_retrying"], health["actions_given_up"]) == (0, 0, 0)
        assert health["projected_seq"] == found["stream"]["last_seq"]


async def test_bad_requests_say_what_to_do(nats: NatsBox, config: Path) -> None:
    async with dispatcher(nats):
        for argv, code, said in (
            (("replay",), 2, "give the ID of one failed action, or --all"),
            (("replay", "1", "--all"), 2, "give the ID of one failed action, or --all"),
            (("replay", "7"), 1, "no failed action 7: see `appliance events failed`"),
            (("discard", "--all"), 1, "no action has failed"),
        ):
            shown = await appliance(config, "events", *argv)
            assert (shown.exit_code, said in shown.output) == (code, True), shown.output


async def test_the_health_of_a_dispatcher_that_is_away_shows_how_far_it_is_behind(nats: NatsBox, config: Path) -> None:
    bus = await nats.bus("supervisor")
    async with dispatcher(nats):
        pass
    for _ in range(5):
        await bus.publish(JobCancelled(job=new_id(), by="me"))
    await asyncio.sleep(0.1)
    found = json.loads((await appliance(config, "status", "--json")).output)["dispatcher"]
    assert found["lag_events"] == 5
    assert found["lag_s"] >= 0.1


def test_the_table_is_printed_for_people_and_for_programs() -> None:
    shown = CliRunner().invoke(main, ["events", "table", "--json"])
    rows = {row.pop("type"): row for row in map(json.loads, shown.output.splitlines())}
    assert list(rows) == list(TABLE)
    assert rows["clip:failed"]["actions"] == ["complete_job", "dead_letter"]
    assert "clip:failed" in CliRunner().invoke(main, ["events", "table"]).output
