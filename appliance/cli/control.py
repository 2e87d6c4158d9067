"""`appliance pause`, `drain`, `resume`: stop a part of the box on purpose, and let it go on."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import click

from appliance.cli import FAILED, Session

if TYPE_CHECKING:
    from appliance.control.holds import Hold, Target

TARGET_NAMES = ("intake", "download", "transcribe", "moments", "faces", "crop", "cut", "all")
_target = click.argument("target", type=click.Choice(TARGET_NAMES))
_length = click.option("--for", "length", metavar="LENGTH", help="End it by itself after 30m, 8h, 7d. Default: never.")
_reason = click.option("--reason", default="", help="Why, for who comes later.")
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


@click.command()
@_target
@_length
@_reason
@_json
@click.pass_obj
def pause(session: Session, target: str, length: str | None, reason: str, as_json: bool) -> None:
    """Let nothing new begin: TARGET is a stage, all of them, or intake, which takes jobs in.

    What runs is finished, what waits goes on waiting, also over a restart of the box, until `appliance resume`.

    \b
    Example:
      appliance pause cut --for 2h --reason "the other card is being built in"
      appliance pause intake
    """
    _tell(asyncio.run(_hold(session, target, "pause", length, reason)), as_json=as_json)


@click.command()
@_target
@_length
@_reason
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), help="Most seconds to wait. Default: no limit.")
@click.option("--no-wait", is_flag=True, help="Return at once.")
@_json
@click.pass_obj
def drain(
    session: Session,
    target: str,
    length: str | None,
    reason: str,
    timeout_s: float | None,
    no_wait: bool,
    as_json: bool,
) -> None:
    """As pause, end the stage's workers, and wait until nothing is in work any more.

    Draining intake waits for the end of every job. Ctrl-C ends the waiting, not the drain. Exit code 1 when it is not
    done within --timeout.

    \b
    Example:
      appliance drain all --timeout 600
      appliance drain cut --no-wait
    """
    made = asyncio.run(_hold(session, target, "drain", length, reason))
    if not no_wait:
        try:
            made["drained"] = asyncio.run(_wait(session, target, timeout_s))
        except KeyboardInterrupt:
            made["drained"] = False
            click.echo("not waiting any more: the drain stands", err=True)
    _tell(made, as_json=as_json)
    sys.exit(0 if made.get("drained", True) else FAILED)


@click.command()
@_target
@_reason
@click.option("--force", is_flag=True, help="Also what the box itself holds; it may hold it again.")
@_json
@click.pass_obj
def resume(session: Session, target: str, reason: str, force: bool, as_json: bool) -> None:
    """Let TARGET go on: ends what `appliance pause` and `appliance drain` began.

    What the box itself has stopped (a full disk) stays stopped until its own reason is gone, and is shown.

    \b
    Example:
      appliance resume cut
      appliance resume all
      appliance resume intake --force
    """
    _tell(asyncio.run(_release(session, target, reason, force=force)), as_json=as_json)


async def _hold(
    session: Session, name: str, mode: Literal["pause", "drain"], length: str | None, reason: str
) -> dict[str, Any]:
    from appliance.boxlink import connect
    from appliance.cli.person import length_s, who
    from appliance.control.holds import OPERATOR, targets_of
    from appliance.control.ledger import hold
    from bus.events import UserAction

    until = None if length is None else datetime.now(UTC) + timedelta(seconds=length_s(length, "--for"))
    targets, by = targets_of(name), who()
    async with await connect(session.config) as bus:
        changed = [
            target
            for target in targets
            if await hold(bus, target, OPERATOR, mode=mode, by=by, reason=reason, until=until)
        ]
        await bus.publish(UserAction(source="cli", user=by, action=f"control.{mode}", target=name))
        return {"changed": changed, "holds": await _standing(bus, targets)}


async def _release(session: Session, name: str, reason: str, *, force: bool) -> dict[str, Any]:
    from appliance.boxlink import connect
    from appliance.cli.person import who
    from appliance.control.holds import OPERATOR, targets_of
    from appliance.control.ledger import release
    from bus.events import UserAction

    targets, by = targets_of(name), who()
    async with await connect(session.config) as bus:
        changed = []
        for target in targets:
            holders = {held.holder for held in await _standing(bus, (target,))} if force else {OPERATOR}
            released = [await release(bus, target, holder, by=by, reason=reason) for holder in sorted(holders)]
            changed += [target] if any(released) else []
        action = "control.force-resume" if force else "control.resume"
        await bus.publish(UserAction(source="cli", user=by, action=action, target=name))
        return {"changed": changed, "holds": await _standing(bus, targets)}


async def _standing(bus: Any, targets: tuple[Target, ...]) -> list[Hold]:
    from appliance.control.ledger import read_holds

    return [hold for hold in await read_holds(bus) if hold.target in targets]


async def _wait(session: Session, name: str, timeout_s: float | None) -> bool:
    """Until nothing is in work; False when it takes longer than that."""
    from appliance.boxlink import connect
    from appliance.control.drain import draining
    from appliance.control.holds import targets_of

    said = ""
    try:
        async with asyncio.timeout(timeout_s), await connect(session.config) as bus:
            async for left in draining(bus, session.config.data_dir, targets_of(name)):
                busy = ", ".join(
                    f"{row.target} {row.in_work}" if row.in_work else f"{row.target}: its workers leave"
                    for row in left
                    if row.in_work or row.workers
                )
                if busy != said and busy:
                    click.echo(f"still in work: {busy}", err=True)
                said = busy
    except TimeoutError:
        return False
    return True


def _tell(made: dict[str, Any], *, as_json: bool) -> None:
    import msgspec

    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(made)).decode())
        return
    if not made["changed"]:
        click.echo("nothing to change")
    for hold in made["holds"]:
        click.echo(f"{hold.target}: {hold}")
    for target in made["changed"]:
        if not any(hold.target == target for hold in made["holds"]):
            click.echo(f"{target} runs")
    if "drained" in made:
        click.echo("nothing is in work" if made["drained"] else "not everything is done: see `appliance workers`")
