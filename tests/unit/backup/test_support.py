"""The support bundle: what helps, and nothing that is its owner's."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from appliance.alerts.settings import Notify
from appliance.cli import main
from appliance.config import load
from appliance.doctor.finding import ok
from appliance.support import LOG_BYTES, bundle
from tests.unit.backup.box import Box


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path / "box")
    box.config_file.write_text(
        f"data_dir: {box.data}\n"
        "notify: {urls: ['tgram://1234567:botsecret/chat-room-9', 'mailto://anna:mailsecret@example.org']}\n"
        "bus: {url: 'nats://worker:bussecret@10.0.0.1:4222'}\n"
    )
    box.config = load(box.config_file, {})
    (box.data / "nats" / "secrets.json").write_text('{"passwords": {"web": "websecret"}}')
    (box.data / "logs" / "dispatcher.log").write_text(
        "x" * LOG_BYTES + "\nlogin with websecret failed\nposting to tgram://1234567:botsecret/chat-room-9\nlast line\n"
    )
    return box


def read(file: Path) -> dict[str, str]:
    with tarfile.open(file) as tar:
        return {
            head.name.removeprefix("support/"): content.read().decode()
            for head in tar
            if (content := tar.extractfile(head)) is not None
        }


def test_it_tells_what_helps_and_no_secret(box: Box, tmp_path: Path) -> None:
    file = tmp_path / "s.tar.gz"
    assert bundle(box.config, file, examine=lambda config: [ok("bus", "answers at nats://a:bussecret@h")]) == []
    held = read(file)
    assert set(held) == {
        "README.txt", "versions.json", "doctor.json", "settings.json", "database.json", "events.jsonl",
        "logs/bus.log", "logs/dispatcher.log",
    }  # fmt: skip
    everything = "\n".join(held.values())
    for secret in ("botsecret", "chat-room-9", "mailsecret", "bussecret", "websecret"):
        assert secret not in everything, secret
    for private in ("talk.mp4", "/v/talk", "clip-01.mp4"):
        assert private not in held["events.jsonl"] + held["database.json"], private
    assert held["logs/dispatcher.log"].endswith("last line\n")
    assert len(held["logs/dispatcher.log"]) < LOG_BYTES
    facts = [json.loads(line) for line in held["events.jsonl"].splitlines()]
    assert [fact["seq"] for fact in facts] == list(range(1, box.facts + 1))
    assert {"type", "job", "ts"} <= set(facts[0])
    database = json.loads(held["database.json"])
    assert database["rows"]["events"] == box.facts
    assert {row["state"]: row["count"] for row in database["job_states"]} == {"deleted": 1, "failed": 1, "running": 1}
    settings = json.loads(held["settings.json"])
    assert settings["notify"]["urls"] == ["tgram://***", "mailto://***"]
    assert settings["retry"]["attempts"] == 3
    assert json.loads(held["versions.json"])["packages"]["msgspec"]


def test_an_address_that_cannot_be_taken_apart_is_masked_too(box: Box, tmp_path: Path) -> None:
    notify = Notify(urls=["mailto://me:mail[secret@example.org"])
    config = msgspec.structs.replace(box.config, notify=notify)
    (config.logs_dir / "web.log").write_text("cannot log in with mail[secret\n")
    assert bundle(config, tmp_path / "s.tar.gz", examine=lambda config: []) == []
    held = read(tmp_path / "s.tar.gz")
    assert held["logs/web.log"] == "cannot log in with ***\n"
    assert json.loads(held["settings.json"])["notify"]["urls"] == ["mailto://***"]


def test_a_broken_box_is_no_obstacle(box: Box, tmp_path: Path) -> None:
    (box.data / "appliance.db").write_bytes(b"no database")

    def broken(config: object) -> list[object]:
        raise RuntimeError("the doctor is ill")

    problems = bundle(box.config, tmp_path / "s.tar.gz", examine=broken)
    assert [problem.partition(":")[0] for problem in problems] == ["doctor.json", "database.json", "events.jsonl"]
    held = read(tmp_path / "s.tar.gz")
    assert "the doctor is ill" in held["problems.txt"]
    assert "logs/dispatcher.log" in held


def test_the_command_replaces_nothing_unasked(box: Box, tmp_path: Path) -> None:
    (tmp_path / "s.tar.gz").write_bytes(b"mine")
    shown = CliRunner().invoke(main, ["-c", str(box.config_file), "support", str(tmp_path / "s.tar.gz")])
    assert (shown.exit_code, "--force" in shown.output) == (2, True)
    assert (tmp_path / "s.tar.gz").read_bytes() == b"mine"
