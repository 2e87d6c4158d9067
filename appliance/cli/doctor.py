"""`appliance doctor`: what is right with this box and what is not."""

from __future__ import annotations

import click

from appliance.cli import Session

COLOURS = {"OK": "green", "WARN": "yellow", "FAIL": "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.pass_obj
def doctor(session: Session, as_json: bool) -> None:
    """Look at this machine and say what is right, what is not, and what to do.

    Ends with 1 when something keeps the box from working.

    \b
    Example:
      appliance doctor
      appliance doctor --json
    """
    import msgspec

    from appliance.doctor import examine

    findings = examine(session.config)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(findings)).decode())
    else:
        for finding in findings:
            click.echo(
                f"{click.style(f'{finding.state:4}', fg=COLOURS[finding.state])}  {finding.name}: {finding.found}"
            )
            if finding.meaning:
                click.echo(f"      {finding.meaning}")
            if finding.action:
                click.echo(f"      → {finding.action}")
        bad = sum(finding.state == "FAIL" for finding in findings)
        weak = sum(finding.state == "WARN" for finding in findings)
        click.echo(f"{len(findings)} checks, {bad} failed, {weak} with a remark")
    if any(finding.state == "FAIL" for finding in findings):
        raise SystemExit(1)
