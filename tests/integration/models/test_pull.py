"""Fetching models from a real HTTP server: resumed, bounded, checked, put in place in one step."""

from __future__ import annotations

import fcntl
import hashlib
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from appliance import model_pull, models
from appliance.cli import main
from appliance.errors import ModelDamaged, ModelError, ModelUnreachable
from appliance.model_pull import pull
from appliance.models import MANIFEST, Model, find, state
from tests.integration.models.publisher import COMMIT, Publisher, publishing

CONTENT = random.Random(1).randbytes(300_000)
FACES = Model(
    name="faces", use="a test", license="MIT", target="faces.onnx", size_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(), url="http://nowhere.invalid/faces.onnx", recommended=True,
)  # fmt: skip
SPEECH = msgspec.structs.replace(find("whisper-tiny"), size_bytes=400_000)


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    monkeypatch.setattr(model_pull, "RETRY_DELAY_S", 0.0)
    with publishing() as server:
        server.files["/faces.onnx"] = CONTENT
        yield server


@pytest.fixture
def hub(publisher: Publisher) -> Publisher:
    publisher.files = {
        "/config.json": b'{"alignment_heads": []}',
        "/model.bin": CONTENT,
        "/tokenizer.json": b"{}" * 500,
        "/vocabulary.txt": b"a\nb\n",
        "/README.md": b"not wanted",
    }
    publisher.large = {"/model.bin"}
    return publisher


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_a_file_arrives_whole(publisher: Publisher, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = pull(
        FACES, tmp_path / "models", mirror=publisher.url, progress=lambda have, total: seen.append((have, total))
    )
    assert path.read_bytes() == CONTENT
    assert left_over(path.parent) == ["faces.onnx"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert state(FACES, path.parent, sums=True).state == "present"


def test_a_broken_fetch_goes_on_where_it_stopped(publisher: Publisher, tmp_path: Path) -> None:
    publisher.break_after = [100_000, 50_000]
    assert pull(FACES, tmp_path, mirror=publisher.url).read_bytes() == CONTENT
    assert [span for _, _, span in publisher.asked] == [None, "bytes=100000-", "bytes=150000-"]


def test_a_later_pull_goes_on_too(publisher: Publisher, tmp_path: Path) -> None:
    publisher.break_after = [60_000, 1000, 1000, 1000]
    with pytest.raises(ModelUnreachable, match=r"faces cannot be fetched.*models add faces"):
        pull(FACES, tmp_path, mirror=publisher.url)
    assert left_over(tmp_path) == [".faces.onnx.part"]
    pull(FACES, tmp_path, mirror=publisher.url)
    assert publisher.asked[-1] == ("GET", "/faces.onnx", "bytes=63000-")
    assert left_over(tmp_path) == ["faces.onnx"]


def test_a_server_without_ranges_starts_over(publisher: Publisher, tmp_path: Path) -> None:
    publisher.honour_ranges, publisher.break_after = False, [100_000]
    assert pull(FACES, tmp_path, mirror=publisher.url).read_bytes() == CONTENT


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"more"], ids=["whole", "too long"])
def test_a_part_that_a_crash_left_is_used_or_dropped(part: bytes, publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / ".faces.onnx.part").write_bytes(part)
    assert pull(FACES, tmp_path, mirror=publisher.url).read_bytes() == CONTENT
    assert len(publisher.asked) == (0 if part == CONTENT else 1)


@pytest.mark.parametrize(
    "content", [CONTENT[:-1] + b"?", CONTENT + b"more", CONTENT[:-1]], ids=["other", "more", "less"]
)
def test_anything_but_the_published_bytes_is_refused(content: bytes, publisher: Publisher, tmp_path: Path) -> None:
    publisher.files["/faces.onnx"] = content
    with pytest.raises(ModelDamaged, match="published"):
        pull(FACES, tmp_path, mirror=publisher.url)
    assert left_over(tmp_path) == []


def test_a_bad_file_never_replaces_a_good_one(publisher: Publisher, tmp_path: Path) -> None:
    pull(FACES, tmp_path, mirror=publisher.url)
    publisher.files["/faces.onnx"] = b"?" * len(CONTENT)
    with pytest.raises(ModelDamaged):
        pull(FACES, tmp_path, mirror=publisher.url)
    assert (tmp_path / "faces.onnx").read_bytes() == CONTENT


def test_no_server_and_no_file_are_plain_errors(publisher: Publisher, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(ModelUnreachable, match="Check this machine's network"):
            pull(FACES, tmp_path, mirror=f"http://127.0.0.1:{free.getsockname()[1]}")
    publisher.files.clear()
    with pytest.raises(ModelUnreachable, match="answers 404 Not Found"):
        pull(FACES, tmp_path, mirror=publisher.url)
    with pytest.raises(ModelError, match="models add yolo-face"):
        pull(find("yolo-face"), tmp_path)


def test_two_pulls_never_write_the_same_part(publisher: Publisher, tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ModelError, match="another pull"):
            pull(FACES, tmp_path, mirror=publisher.url)


def test_a_full_disk_is_said_before_fetching(publisher: Publisher, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="make room"):
        pull(msgspec.structs.replace(FACES, size_bytes=2**60), tmp_path, mirror=publisher.url)
    assert publisher.asked == []


def test_a_folder_comes_from_a_hub_with_its_sums(hub: Publisher, tmp_path: Path) -> None:
    path = pull(SPEECH, tmp_path, mirror=hub.url)
    assert sorted(file.name for file in path.iterdir()) == [
        "config.json", MANIFEST, "model.bin", "tokenizer.json", "vocabulary.txt",
    ]  # fmt: skip
    assert (path / "model.bin").read_bytes() == CONTENT
    have = state(SPEECH, tmp_path, sums=True)
    assert (have.state, have.detail.endswith(f"from {SPEECH.hub}@{COMMIT}")) == ("present", True)
    assert left_over(tmp_path) == [SPEECH.target]


def test_a_folder_replaces_a_damaged_one(hub: Publisher, tmp_path: Path) -> None:
    path = pull(SPEECH, tmp_path, mirror=hub.url)
    (path / "model.bin").write_bytes(b"?" * len(CONTENT))
    assert state(SPEECH, tmp_path).state == "present"
    assert state(SPEECH, tmp_path, sums=True).state == "damaged"
    pull(SPEECH, tmp_path, mirror=hub.url)
    assert state(SPEECH, tmp_path, sums=True).state == "present"
    assert left_over(tmp_path) == [SPEECH.target]


def test_a_hub_fetch_survives_a_break(hub: Publisher, tmp_path: Path) -> None:
    hub.break_after = [100_000]
    assert (pull(SPEECH, tmp_path, mirror=hub.url) / "model.bin").read_bytes() == CONTENT


def test_a_hub_that_lacks_a_file_is_a_plain_error(hub: Publisher, tmp_path: Path) -> None:
    del hub.files["/model.bin"]
    with pytest.raises(ModelUnreachable, match=r"model\.bin did not come"):
        pull(SPEECH, tmp_path, mirror=hub.url)
    assert state(SPEECH, tmp_path).state == "absent"


@pytest.mark.parametrize("path", ["/model.bin", "/config.json"])
def test_a_hub_file_with_another_sum_is_refused(path: str, hub: Publisher, tmp_path: Path) -> None:
    hub.false_sums[path] = hub.etag(path)[::-1]
    with pytest.raises(ModelDamaged, match=f"{path[1:]} has checksum"):
        pull(SPEECH, tmp_path, mirror=hub.url)
    assert state(SPEECH, tmp_path).state == "absent"
    assert not list(tmp_path.rglob(path[1:]))


def test_the_command_fetches_checks_and_removes(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "REGISTRY", (FACES,))

    def run(*argv: str) -> tuple[int, str]:
        shown = CliRunner().invoke(main, ["models", *argv], env={"APPLIANCE_DATA_DIR": str(tmp_path)})
        return shown.exit_code, shown.output

    assert "absent" in run("list")[1]
    assert run("verify")[0] == 0
    assert run("verify", "faces")[0] == 1
    assert run("pull", "--from", publisher.url)[0] == 0
    assert "already here" in run("pull")[1]
    assert run("verify", "faces") == (0, "faces                    present    checksum matches\n")
    (tmp_path / "models/faces.onnx").write_bytes(b"?" * len(CONTENT))
    code, said = run("verify")
    assert (code, "damaged" in said, "appliance models pull faces" in said) == (1, True, True)
    assert "removed" in run("remove", "faces")[1]
    assert "was not here" in run("remove", "faces")[1]
    assert run("pull", "nope")[0] == 2
