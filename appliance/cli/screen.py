"""How `appliance process` shows a job: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from appliance.progress import JobView
from bus.events import CLIP_STAGES, STAGES, StageName

REFRESH_PER_S = 4
PLAIN_EVERY_S = 5.0


class RichScreen:
    """One line a stage with a bar, speed and time left; then a table of clips."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._view: JobView | None = None
        self._live: Live | None = None

    def say(self, text: str) -> None:
        if text:
            self._console.print(text, style="dim", highlight=False)

    @contextmanager
    def showing(self, view: JobView) -> Iterator[None]:
        self._view = view
        with Live(console=self._console, refresh_per_second=REFRESH_PER_S, get_renderable=self._render) as live:
            self._live = live
            yield
        self._live = None

    def changed(self) -> None:
        """Nothing to do: the table is drawn from the view a few times a second."""

    def _render(self) -> Group:
        assert self._view is not None
        return Group(stage_table(self._view, datetime.now(UTC)), Text(self._view.error or "", style="red"))

    def result(self, view: JobView, folder: Path) -> None:
        print_result(self._console, view, folder)


class PlainScreen:
    """For pipes and logs: a line when a stage starts, every few seconds, and when it ends."""

    def __init__(self, stream: TextIO, *, quiet: bool) -> None:
        self._console = Console(file=stream, highlight=False, width=160)
        self._quiet = quiet
        self._view: JobView | None = None
        self._said: dict[StageName, str] = {}
        self._said_at: dict[StageName, float] = {}

    def say(self, text: str) -> None:
        if text and not self._quiet:
            self._console.print(text)

    @contextmanager
    def showing(self, view: JobView) -> Iterator[None]:
        self._view = view
        yield

    def changed(self) -> None:
        if self._quiet or self._view is None:
            return
        now = datetime.now(UTC)
        for stage in STAGES:
            view = self._view.stages[stage]
            if view.started_at is None:
                continue
            mark = "done" if self._view.is_done(stage) else view.last_error or "running"
            due = time.monotonic() - self._said_at.get(stage, 0.0) >= PLAIN_EVERY_S and mark == "running"
            if self._said.get(stage) != mark or due:
                self._said[stage], self._said_at[stage] = mark, time.monotonic()
                self._console.print("  ".join(part for part in stage_cells(self._view, stage, now) if part))

    def result(self, view: JobView, folder: Path) -> None:
        print_result(Console(highlight=False), view, folder)


def stage_cells(view: JobView, stage: StageName, now: datetime) -> list[str]:
    """Name, state, share, speed and time left of one stage, as text."""
    line = view.stages[stage]
    done = view.is_done(stage)
    if line.started_at is None:
        state = "waiting"
    elif done:
        state = "done"
    else:
        state = f"retry {line.retries}" if line.last_error else "running"
    items = f"{sum(1 for s in line.items.values() if s >= 1.0)}/{len(view.clips)}" if stage in CLIP_STAGES else ""
    speed = view.speed(stage, now)
    eta = view.eta_s(stage, now)
    return [
        f"{stage:10}",
        f"{state:8}",
        f"{view.share(stage):4.0%}",
        items,
        f"{speed:.1f}x real time" if speed is not None else "",
        f"{_clock(eta)} left" if eta is not None else (f"{line.seconds:.1f} s" if done else ""),
        f"retry {line.retries}: {line.last_error}" if line.last_error else "",
    ]


def stage_table(view: JobView, now: datetime) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(width=10)
    table.add_column(width=30)
    for _ in range(4):
        table.add_column(justify="right")
    table.add_column(style="yellow")
    for stage in STAGES:
        name, state, share, items, speed, eta, error = stage_cells(view, stage, now)
        bar = ProgressBar(total=1.0, completed=view.share(stage), width=30)
        style = "dim" if state.strip() == "waiting" else ("green" if state.strip() == "done" else "")
        table.add_row(Text(name.strip(), style=style), bar, share, items, speed, eta, error)
    return table


def print_result(console: Console, view: JobView, folder: Path) -> None:
    """The clips, the notes, or the reason why there are none."""
    if view.state != "completed":
        reason = view.error or "no reason was given"
        hint = " Run the same command again to go on where it stopped." if view.state == "cancelled" else ""
        console.print(f"{view.state}: {reason}.{hint}", style="red", highlight=False, soft_wrap=True)
    if any(clip.ready for clip in view.clips.values()):
        table = Table(box=None, padding=(0, 2), header_style="bold")
        for header in ("clip", "from - to", "score", "why"):
            table.add_column(header)
        for clip in view.clips.values():
            if clip.ready is None:
                continue
            plan = clip.plan
            table.add_row(
                str(clip.clip),
                f"{_clock(plan.start_s)} - {_clock(plan.end_s)}",
                f"{plan.score:.2f}",
                "; ".join(plan.reasons),
            )
        console.print(table)
        for clip in view.clips.values():
            if clip.ready is not None:
                console.print(f"{folder / clip.ready.path}", highlight=False, soft_wrap=True)
    for clip in view.clips.values():
        if clip.failed is not None and clip.ready is None:
            console.print(
                f"clip {clip.clip} failed in {clip.failed.stage}: {clip.failed.error}", style="red", soft_wrap=True
            )
    for note in view.notes:
        console.print(f"note: {note}", style="dim", highlight=False, soft_wrap=True)


def _clock(seconds: float) -> str:
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    text = f"{rest // 60}:{rest % 60:02d}"
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else text
