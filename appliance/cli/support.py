"""`appliance support`: a bundle of diagnostics to give to somebody who helps."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.cli import Session


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Replace FILE when it exists.")
@click.pass_obj
def support(session: Session, file: Path, force: bool) -> None:
    """Write a bundle of diagnostics to FILE (a .tar.gz): versions, the doctor's findings, settings, failures, logs.

    Secrets are masked and videos' names left out; read it before you give it away. Works on a broken box, too.

    \b
    Example:
      appliance support /tmp/appliance-support.tar.gz
    """
    from appliance.doctor import examine
    from appliance.errors import BackupRefused
    from appliance.support import bundle

    file = file.absolute()
    if not file.parent.is_dir():
        raise BackupRefused(f"{file.parent} is no folder: make it first")
    if file.exists() and not force:
        raise BackupRefused(f"{file} exists: name another file, or let --force replace it")
    problems = bundle(session.config, file, examine=examine)
    click.echo(f"{file}: {file.stat().st_size / 1000:.0f} kB; read it before you give it away")
    for problem in problems:
        click.echo(f"  not in it: {problem}")
