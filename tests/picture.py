"""The README's picture: `python -m tests.picture data/appliance.db JOB > docs/process.svg`.

Draws what `appliance process` showed for a finished job, from that job's stored facts.
"""

from __future__ import annotations

import io
import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from appliance.cli.screen import print_result, stage_table
from appliance.progress import JobView
from appliance.sqlite import sqlite3
from bus.events import decode_event

WIDTH = 108
PICTURE = """<svg viewBox="0 0 {terminal_width} {terminal_height}" role="img" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>{lines}</defs>
<rect width="{terminal_width}" height="{terminal_height}" rx="8" fill="#1b1e24"/>
<g class="{unique_id}-matrix" transform="translate(12, 10)">{backgrounds}{matrix}</g>
</svg>
"""
"""Like the library's own template, without its web fonts: a document of ours loads nothing from elsewhere."""


def main() -> None:
    database, job = sys.argv[1:]
    view = JobView(job)
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT seq, payload FROM events WHERE job = ? ORDER BY seq", (job,)).fetchall()
    for seq, payload in rows:
        view.fact(seq, decode_event(payload))
    (ended,) = [datetime.fromisoformat(str(decode_event(payload).ts)) for _, payload in rows[-1:]]
    view.notes = []  # they depend on the machine
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print("$ appliance process talk.mp4 --clips 3 --out clips", style="bold", highlight=False)
    console.print(stage_table(view, ended))
    console.print()
    print_result(console, view, Path("clips"))
    picture = console.export_svg(theme=MONOKAI, code_format=PICTURE, unique_id="t")
    sys.stdout.write("\n".join(line.rstrip() for line in picture.splitlines()) + "\n")


if __name__ == "__main__":
    main()
