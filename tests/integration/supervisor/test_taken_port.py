"""A box whose pages cannot be served says so in one line, before it has started anything."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path


def test_up_names_the_address_and_the_setting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (tmp_path / "appliance.yaml").write_text(f"data_dir: data\nbus: {{port: 0}}\nweb: {{port: {port}}}\n")
        up = subprocess.run(
            [sys.executable, "-m", "appliance", "up"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (up.returncode, up.stdout) == (1, "")
    (line,) = up.stderr.splitlines()
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in line
    assert "web.host and web.port" in line
    assert not (tmp_path / "data" / "nats").exists()
