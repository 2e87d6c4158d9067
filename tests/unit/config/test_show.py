"""`appliance config show` tells no secret."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from appliance.cli import main


def test_notification_addresses_and_passwords_are_masked(tmp_path: Path) -> None:
    file = tmp_path / "appliance.yaml"
    file.write_text(
        'notify: {urls: ["slack://T1JSECRET/B2/token", "mailto://me:hunter2@example.org"]}\n'
        "cache: {url: 'redis://user:hunter2@host:6379'}\n"
    )
    shown = CliRunner().invoke(main, ["-c", str(file), "config", "show", "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.output)["notify"]["urls"] == ["slack://***", "mailto://***"]
    assert "SECRET" not in shown.output
    assert "hunter2" not in shown.output
