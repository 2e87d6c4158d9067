"""The command line: every command explains itself, errors are plain, help is quick."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from appliance import cli
from appliance.cli import COMMANDS, main
from appliance.cli.reference import every_command, reference
from appliance.errors import ApplianceError, BoxNotRunning, IntakeRefused
from bus.errors import BusUnavailable
from stages.errors import Rejected

HEAVY = ("numpy", "cv2", "av", "scipy", "ctranslate2", "faster_whisper", "nats", "httpx", "litestar", "rich", "redis")


def appliance(*argv: str, env: dict[str, str | None] | None = None) -> Result:
    return CliRunner().invoke(main, argv, env=env, prog_name="appliance")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "command"), list(every_command()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_has_an_example_that_names_it(name: str, command: click.Command) -> None:
    shown = appliance(*name.split()[1:], "--help")
    assert shown.exit_code == 0
    _, _, example = shown.output.partition("Example")
    assert f"  {name} " in f"{example} " or f"  {name}\n" in example, f"`{name} --help` needs an example of itself"
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help, f"{name} {option.opts[0]} needs a help text"


def test_help_imports_nothing_heavy() -> None:
    code = "\n".join(
        (
            "import sys",
            "from appliance.cli import main",
            "main(['--help'], standalone_mode=False)",
            f"print(sorted(set({HEAVY!r}) & set(sys.modules)))",
        )
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.splitlines()[-1] == "[]"
    for name in COMMANDS:
        assert f"  {name}" in shown.stdout


def test_an_unknown_command_names_the_nearest() -> None:
    shown = appliance("modles", "list")
    assert shown.exit_code == 2
    assert "No command 'modles'. Did you mean 'models'?" in shown.output


def test_configuration_mistakes_end_with_2_and_no_traceback() -> None:
    Path("box.yaml").write_text("bus: {port: x}\nnope: 1\n")
    shown = appliance("-c", "box.yaml", "config", "check")
    assert shown.exit_code == 2
    assert "the configuration has 2 mistakes" in shown.output
    assert "box.yaml:1:13: bus.port: found 'x'" in shown.output
    assert "Traceback" not in shown.output


@pytest.mark.parametrize(
    ("error", "code"),
    [(BoxNotRunning("start it"), 1), (IntakeRefused("no"), 2), (BusUnavailable("away"), 1), (Rejected("bad", "x"), 1)],
)
def test_our_errors_are_one_plain_message(error: Exception, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: object) -> None:
        raise error

    monkeypatch.setattr(cli.Session, "config", property(fail))
    shown = appliance("config", "check")
    assert (shown.exit_code, shown.output) == (code, f"Error: {error}\n")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.Session, "config", property(lambda _self: 1 / 0))
    assert isinstance(appliance("config", "check").exception, ZeroDivisionError)


def test_every_error_of_ours_says_how_it_exits() -> None:
    todo = [ApplianceError]
    while todo:
        kind = todo.pop()
        assert kind.exit_code in (1, 2)
        assert kind.__doc__
        todo += kind.__subclasses__()


def test_config_show_masks_passwords_and_is_readable_again() -> None:
    env: dict[str, str | None] = {"APPLIANCE_BUS__URL": "nats://box:s3cret@host:4222", "APPLIANCE_DATA_DIR": "/srv/box"}
    shown = appliance("config", "show", env=env)
    assert "s3cret" not in shown.output
    assert yaml.safe_load(shown.output)["bus"]["url"] == "nats://box:***@host:4222"
    as_json = json.loads(appliance("config", "show", "--json", env=env).output)
    assert as_json["data_dir"] == "/srv/box"
    assert as_json == yaml.safe_load(shown.output)


def test_what_config_show_prints_is_a_configuration_that_is_the_same() -> None:
    before = appliance("config", "show").output
    Path("appliance.yaml").write_text(before)
    assert appliance("config", "show").output == before


def test_config_show_template_is_a_configuration() -> None:
    Path("appliance.yaml").write_text(appliance("config", "show", "--template").output)
    assert "no mistakes" in appliance("config", "check").output


def test_version() -> None:
    assert appliance("--version").output.startswith("appliance 0.")


def test_the_written_reference_is_that_of_the_commands() -> None:
    page = Path(__file__).parents[3] / "docs" / "CLI.md"
    assert page.read_text() == reference(), "run `make docs` and commit docs/CLI.md"
