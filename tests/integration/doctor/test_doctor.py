"""The doctor on this machine, and on machines with something missing."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from appliance import doctor
from appliance.cli import main
from appliance.config import Config, load
from appliance.doctor import host, media, programs
from appliance.doctor.finding import Finding


def config(folder: Path, **environ: str) -> Config:
    return load(
        None,
        {"APPLIANCE_DATA_DIR": str(folder / "data"), "APPLIANCE_BUS__PORT": "0", "APPLIANCE_WEB__PORT": "0", **environ},
    )


def only(found: list[Finding], name: str) -> Finding:
    [finding] = [finding for finding in found if finding.name == name]
    return finding


@contextmanager
def answering(line: bytes) -> Iterator[int]:
    """A server that greets each caller with one line."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def serve() -> None:
            server.settimeout(0.05)
            while not stop.is_set():
                try:
                    caller, _ = server.accept()
                except TimeoutError:
                    continue
                with caller:
                    caller.sendall(line)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            stop.set()
            thread.join()


def test_this_machine_can_run_the_box(tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    found = doctor.examine(config(tmp_path))
    assert [finding for finding in found if finding.state == "FAIL"] == []
    assert "starts" in only(found, "nats-server").found
    assert {"python", "disk", "clock", "sqlite", "confinement", "port", "cache", "codecs", "fonts", "gpu"} <= {
        finding.name for finding in found
    }
    for finding in found:
        assert (finding.state == "OK") == (finding.action == ""), f"{finding.name} says nothing of what to do"
    assert sorted(tmp_path.iterdir()) == before, "the doctor leaves something behind"


def test_the_command_shows_the_same_as_json(tmp_path: Path) -> None:
    env = {"APPLIANCE_DATA_DIR": str(tmp_path), "APPLIANCE_BUS__PORT": "0"}
    shown = CliRunner().invoke(main, ["doctor"], env=env)
    assert shown.exit_code == 0
    assert "checks, 0 failed" in shown.output
    as_json = json.loads(CliRunner().invoke(main, ["doctor", "--json"], env=env).output)
    assert {"name", "state", "found", "meaning", "action"} == set(as_json[0])


def test_a_failure_ends_with_1(tmp_path: Path) -> None:
    env = {"APPLIANCE_DATA_DIR": str(tmp_path), "APPLIANCE_BUS__BINARY": "/bin/false"}
    shown = CliRunner().invoke(main, ["doctor"], env=env)
    assert shown.exit_code == 1
    assert "FAIL  nats-server: /bin/false does not start" in shown.output


def test_a_server_to_join_is_asked(tmp_path: Path) -> None:
    with answering(b'INFO {"version":"2.15.1","jetstream":true}\r\n') as port:
        url = f"nats://box:secret@127.0.0.1:{port}"
        assert "version 2.15.1" in only(programs.bus(config(tmp_path, APPLIANCE_BUS__URL=url)), "nats-server").found
    with answering(b'INFO {"version":"2.15.1"}\r\n') as port:
        url = f"nats://127.0.0.1:{port}"
        assert only(programs.bus(config(tmp_path, APPLIANCE_BUS__URL=url)), "nats-server").state == "FAIL"
    gone = only(programs.bus(config(tmp_path, APPLIANCE_BUS__URL=url)), "nats-server")
    assert gone.state == "FAIL"
    assert "does not answer" in gone.found


def test_the_address_of_the_pages_is_looked_at(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        (taken,) = programs.web(config(tmp_path, APPLIANCE_WEB__PORT=port))
        assert taken.state == "FAIL"
        assert taken.found == f"cannot listen on 127.0.0.1:{port} (Address already in use)"
        assert "web.port" in taken.action
        (off,) = programs.web(config(tmp_path, APPLIANCE_WEB__PORT=port, APPLIANCE_WEB__ENABLED="false"))
        assert off.state == "OK"
    (free,) = programs.web(config(tmp_path, APPLIANCE_WEB__PORT=port))
    assert (free.state, free.found) == ("OK", f"127.0.0.1:{port} is free")


def test_a_port_that_is_taken_is_told_from_a_running_box(tmp_path: Path) -> None:
    for line, state in ((b'INFO {"version":"2.15.1","server_name":"box"}\r\n', "WARN"), (b"220 mail\r\n", "FAIL")):
        with answering(line) as port:
            assert only(programs.bus(config(tmp_path, APPLIANCE_BUS__PORT=str(port))), "port").state == state


def test_a_folder_that_cannot_be_written_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.getuid() != 0:
        (tmp_path / "data").mkdir(mode=0o500)
        assert only(host.disk(config(tmp_path)), "disk-write").state == "FAIL"
    assert only(host.disk(config(Path("/proc"))), "disk-write").state == "FAIL"
    monkeypatch.setattr(host, "DISK_FAIL_BYTES", 2**60)
    assert only(host.disk(config(tmp_path)), "disk").state == "FAIL"


def test_what_is_not_installed_is_said_with_what_it_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    [cache] = programs.cache(config(tmp_path))
    assert (cache.state, bool(cache.meaning)) == ("WARN", True)
    assert programs.cache(config(tmp_path, APPLIANCE_CACHE__URL="off"))[0].state == "OK"
    assert programs.cache(config(tmp_path, APPLIANCE_CACHE__URL="unix:///nowhere.sock"))[0].state == "WARN"


def test_the_scripts_that_captions_can_have_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [found] = media.fonts(config(tmp_path))
    assert found.state == "OK"
    assert "letters for Latin, Greek, Cyrillic" in found.found
    [unreadable] = media.fonts(config(tmp_path, APPLIANCE_STAGES__CUT__FONT=__file__))
    assert (unreadable.state, "stages.cut.font" in unreadable.found) == ("FAIL", True)
    monkeypatch.setitem(media.SCRIPTS, "Greek", "𓀀")
    [lacking] = media.fonts(config(tmp_path))
    assert (lacking.state, "none for Greek" in lacking.found) == ("WARN", True)


def test_no_card_is_calm(tmp_path: Path) -> None:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        assert media.gpu(config(tmp_path)) == [
            Finding(name="gpu", state="OK", found="no GPU; everything runs on the CPU")
        ]
    else:
        pynvml.nvmlShutdown()
        assert [finding.name for finding in media.gpu(config(tmp_path))] == ["gpu", "cuda"]


def test_a_damaged_model_is_a_failure(tmp_path: Path) -> None:
    box = config(tmp_path)
    box.models_dir.mkdir(parents=True)
    (box.models_dir / "face_detection_yunet_2023mar.onnx").write_bytes(b"?")
    assert only(media.models(box), "model yunet").state == "FAIL"
    assert only(media.models(box), "model whisper-small").state == "WARN"


def test_a_check_that_breaks_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def python(_config: Config) -> list[Finding]:
        raise ZeroDivisionError("broken")

    monkeypatch.setattr(host, "python", python)
    found = doctor.examine(config(tmp_path))
    assert only(found, "python").found == "the check itself failed: ZeroDivisionError: broken"
    assert len(found) > 10
