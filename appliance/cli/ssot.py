"""`appliance ssot`: the status document of the running box."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from appliance.cli import Session

if TYPE_CHECKING:
    from appliance.config import Config
    from appliance.ssot.cache import Snapshot

SECTION_NAMES = (
    "dashboard",
    "agents_workers",
    "queue",
    "jobs",
    "clips",
    "analytics",
    "hardware",
    "alerts",
    "services",
    "events",
    "cache",
    "websocket",
)


@click.command()
@click.option("--section", type=click.Choice(SECTION_NAMES), metavar="NAME", help="Only this section.")
@click.option("--fresh", is_flag=True, help="Compute it, whatever the cache holds.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, as the HTTP route answers it.")
@click.pass_obj
def ssot(session: Session, section: str | None, fresh: bool, as_json: bool) -> None:
    """Print everything the running box knows about itself.

    Sections: dashboard, agents_workers, queue, jobs, clips, analytics, hardware, alerts, services, events, cache,
    websocket.

    \b
    Example:
      appliance ssot --section queue
      appliance ssot --json
    """
    import msgspec
    import yaml

    found = asyncio.run(_read(session.config, section, fresh))
    if as_json:
        click.echo(msgspec.json.format(found.body).decode())
        return
    click.secho(_heading(found), dim=True)
    content = msgspec.json.decode(found.body)
    click.echo(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120).rstrip())


async def _read(config: Config, section: str | None, fresh: bool) -> Snapshot:
    from appliance.boxlink import connect
    from appliance.ssot.opening import open_ssot

    async with await connect(config) as bus, open_ssot(config, bus) as ssot:
        if section is None:
            return await ssot.read(bypass=fresh)
        return await ssot.read_section(section, bypass=fresh)


def _heading(found: Snapshot) -> str:
    late = f", stale: {', '.join(found.stale)}" if found.stale else ""
    return f"# cache {found.verdict}, position {found.position.seq}, {found.age_s:.1f} s old{late}"
