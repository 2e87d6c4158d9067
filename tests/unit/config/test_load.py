"""Loading: where the file is found, what wins, and what is said about each kind of mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.config import Config, config_digest, load
from appliance.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "box.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    """What is said about `text`, each with the file's folder cut off."""
    with pytest.raises(ConfigError) as raised:
        load(write(folder, text), environ or {})
    assert raised.value.exit_code == 2
    return [str(problem).removeprefix(f"{folder}/") for problem in raised.value.problems]


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(None, {})
    assert config.data_dir == tmp_path / "data"
    assert config.models_dir == tmp_path / "data" / "models"
    assert config.logs_dir == tmp_path / "data" / "logs"
    assert config.dispatcher == Config().dispatcher


def test_search_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for port, name in ((1, "given.yaml"), (2, "named.yaml"), (3, "appliance.yaml")):
        (tmp_path / name).write_text(f"bus: {{port: {port}}}")
    named = {"APPLIANCE_CONFIG": str(tmp_path / "named.yaml")}
    assert load(Path("given.yaml"), named).bus.port == 1
    assert load(None, named).bus.port == 2
    assert load(None, {}).bus.port == 3


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "bus: {port: 4333}\nworkers: {faces: {timeout_s: 9}}\n")
    config = load(path, {"APPLIANCE_BUS__PORT": "5000", "APPLIANCE_WORKERS__FACES": "{min: 2}"})
    assert config.bus.port == 5000
    assert (config.workers.faces.min, config.workers.faces.timeout_s) == (2, 9)


def test_a_section_keeps_the_defaults_of_its_own_place(tmp_path: Path) -> None:
    config = load(write(tmp_path, "workers: {cut: {min: 0}}"), {})
    assert config.workers.cut.timeout_factor == Config().workers.cut.timeout_factor
    assert config.workers.cut.timeout_factor != Config().workers.moments.timeout_factor


def test_relative_paths_are_below_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = write(tmp_path / "etc", "data_dir: ../box\nlogging: {dir: ~/logs}\n")
    config = load(path, {"APPLIANCE_MODELS__DIR": "models"})
    assert config.data_dir == tmp_path / "box"
    assert config.logs_dir == tmp_path / "home" / "logs"
    assert config.models_dir == tmp_path / "here" / "models"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bus: {port: 99999}", "box.yaml:1:13: bus.port: found '99999'; write a whole number from 0 to 65535"),
        ("bus:\n  prot: 1", "box.yaml:2:3: bus.prot: no such setting; did you mean bus.port?"),
        ("port: 1", "box.yaml:1:1: port: no such setting; did you mean bus.port?"),
        ("bus: {ack_wait_s: yes}", "box.yaml:1:19: bus.ack_wait_s: found 'yes'; write a number from 1 to 300"),
        ("bus: {port: 1:30}", "box.yaml:1:13: bus.port: found '1:30'; write a whole number from 0 to 65535"),
        ("bus: {port: 010}", "box.yaml:1:13: bus.port: found '010'; write a whole number from 0 to 65535"),
        ("bus: {port: true}", "box.yaml:1:13: bus.port: found 'true'; write a whole number from 0 to 65535"),
        ("bus: {ack_wait_s: .nan}", "box.yaml:1:19: bus.ack_wait_s: found '.nan'; write a number from 1 to 300"),
        ("bus: {port: }", "box.yaml:1:12: bus.port: found nothing; write a whole number from 0 to 65535"),
        ("data_dir: null", "box.yaml:1:11: data_dir: found 'null'; write a path"),
        ("data_dir: ''", "box.yaml:1:11: data_dir: found ''; write a path"),
        (
            "logging: {level: loud}",
            "box.yaml:1:18: logging.level: found 'loud'; write one of debug, info, warning, error",
        ),
        (
            "retry: {backoff_s: 90}",
            "box.yaml:1:9: retry.backoff_s: 90 is more than retry.backoff_max_s, 60; write 60 or less",
        ),
        (
            "retry: {backoff_max_s: 1}",
            "box.yaml:1:1: retry.backoff_s: 2 is more than retry.backoff_max_s, 1; write 1 or less",
        ),
        ("bus: {port: 1}\nbus: {port: 2}", "box.yaml:2:1: bus: written twice, first at box.yaml:1:1; keep one"),
    ],
)
def test_one_mistake_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    found = problems(tmp_path, text)
    assert [line.replace(f"{tmp_path}/", "") for line in found] == [said]


@pytest.mark.parametrize(
    "text",
    [
        "bus: [1, 2]", "- a", "just text", "bus: {port: [1]}", "bus: {port: {a: 1}}", "bus: {port: 1", "a:\n\tb: 1",
        "? {a: 1}\n: 2", "bus: &x {url: *x}", "bus: *nowhere", "a: 1\n---\nb: 2", "bus: {<<: {port: 1}}",
        "bus: {port: !!python/object:os.system 1}", "\0", "[" * 5000, "a: 1\n" * 400_000, "bus: {port: !!binary eA==}",
    ],
)  # fmt: skip
def test_what_is_no_configuration_is_refused_with_a_place(tmp_path: Path, text: str) -> None:
    found = problems(tmp_path, text)
    assert found
    assert all(line.startswith("box.yaml") and len(line) < 1000 for line in found)


def test_all_mistakes_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        "bus:\n  port: x\n  nope: 1\ncache: {url: of}\n",
        {"APPLIANCE_RETRY__ATTEMPTS": "0", "APPLIANCE_BUS__PROT": "1", "APPLIANCE_BUS__PORT__X": "1"},
    )
    assert [line.split(" ")[0] for line in found[:3]] == ["box.yaml:2:9:", "box.yaml:3:3:", "box.yaml:4:14:"]
    assert found[3] == "environment APPLIANCE_BUS__PORT__X: bus.port: a value, not a section; write APPLIANCE_BUS__PORT"
    assert found[4] == "environment APPLIANCE_BUS__PROT: bus.prot: no such setting; did you mean APPLIANCE_BUS__PORT?"
    assert found[5].startswith("environment APPLIANCE_RETRY__ATTEMPTS: retry.attempts: found '0'; write a whole")


def test_a_named_file_must_be_readable(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"data_dir: caf\xe9")
    for path in (tmp_path / "absent.yaml", tmp_path, tmp_path / "latin"):
        with pytest.raises(ConfigError, match="cannot be read") as raised:
            load(path, {})
        assert str(path) in str(raised.value)


def test_text_that_looks_like_something_else_is_text(tmp_path: Path) -> None:
    config = load(write(tmp_path, "cache: {url: off}\ndata_dir: 8000\n"), {"APPLIANCE_BUS__URL": "nats://a:b@c:1"})
    assert config.cache.url == "off"
    assert config.data_dir == tmp_path / "8000"
    assert config.bus.url == "nats://a:b@c:1"


def test_the_environment_can_say_null_and_empty_files_are_fine(tmp_path: Path) -> None:
    config = load(write(tmp_path, "# nothing\n"), {"APPLIANCE_BUS__URL": "", "APPLIANCE_LOGGING__DIR": "null"})
    assert config.bus.url is None
    assert config.logging.dir is None
    assert load(write(tmp_path, "bus:\n  # port: 1\n"), {}).bus.port == 4222


def test_the_digest_tells_configurations_apart(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    same = load(path, {})
    assert config_digest(same) == config_digest(load(write(tmp_path, "bus: {port: 4222}"), {}))
    other = [load(path, {"APPLIANCE_BUS__PORT": "1"}), load(path, {"APPLIANCE_WORKERS__CUT__MIN": "0"})]
    assert len({config_digest(config) for config in [same, *other]}) == 3
