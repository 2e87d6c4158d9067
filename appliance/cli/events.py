"""`appliance events`: the log of facts, live and past."""

from __future__ import annotations

import asyncio
import contextlib
import re
from datetime import timedelta

import click

from appliance.cli import Session

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.group()
def events() -> None:
    """Watch and read events.

    \b
    Example:
      appliance events tap
      appliance events tap 'evt.job.failed.*' --since 24h
    """


@events.command()
@click.argument("subject", default="evt.>")
@click.option("--since", metavar="AGE", help="Begin with what was stored since then: 90s, 10m, 1h, 7d.")
@click.option("--no-follow", is_flag=True, help="End after the past instead of waiting for more. Needs --since.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def tap(session: Session, subject: str, since: str | None, no_follow: bool, as_json: bool) -> None:
    """Print events as they are stored, each once and in order. Ctrl-C ends it.

    SUBJECT is a filter: evt.>, evt.clip.ready.>, evt.*.*.JOB. Any NATS client sees the same on live.SUBJECT.

    \b
    Example:
      appliance events tap
      appliance events tap 'evt.clip.>' --since 1h --json
    """
    age = None if since is None else _age(since)
    if no_follow and age is None:
        raise click.UsageError("--no-follow needs --since: from when on?")
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        asyncio.run(_tap(session, subject, age, follow=not no_follow, as_json=as_json))


async def _tap(session: Session, subject: str, since: timedelta | None, *, follow: bool, as_json: bool) -> None:
    from appliance.boxlink import connect
    from bus import tap

    show = tap.json_line if as_json else tap.line
    async with await connect(session.config, "tap") as bus:
        source = tap.follow(bus, subject, since) if follow else tap.history(bus, subject, since)
        async for stored in source:
            click.echo(show(stored))


def _age(text: str) -> timedelta:
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if found is None:
        raise click.BadParameter(f"{text!r}: write a number and s, m, h or d, for example 1h", param_hint="--since")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])
