"""`appliance up`, `down`, `status`: the box as a whole."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from appliance.cli import Session

if TYPE_CHECKING:
    from appliance.config import Config

POLL_S = 0.1


@click.command()
@click.pass_obj
def up(session: Session) -> None:
    """Run the box in the foreground until Ctrl-C or `appliance down`.

    The first Ctrl-C lets running work end within supervisor.stop_grace_s, the second ends it at once; what was
    interrupted goes on at the next start.

    \b
    Example:
      appliance up
      appliance -c /etc/appliance/appliance.yaml up
    """
    import uvloop

    from appliance.service import setup_logging

    config = session.config
    setup_logging(config)
    sys.exit(uvloop.run(_up(config)))


async def _up(config: Config) -> int:
    from appliance.boxlink import write_box_file
    from appliance.service import give_memory_back
    from appliance.supervisor.box import Box

    log = logging.getLogger("appliance")
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    box = Box(config)

    def on_signal() -> None:
        if stopping.is_set():
            log.warning("second signal: everything is ended now")
            box.kill()
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    starting = asyncio.create_task(box.start())
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait([starting, waiting], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return 0
    await starting
    write_box_file(config)
    log.info("the box is up", extra={"data": str(config.data_dir), "processes": len(box.processes())})
    if config.web.enabled:
        await asyncio.to_thread(_say_where, config)
    give_memory_back()
    await waiting
    log.info("stopping")
    await box.stop()
    return 0


def _say_where(config: Config) -> None:
    """Print the address of the pages, with the claim of a new box. To the console, not the log: it holds a secret."""
    from appliance.accounts.database import changed, path_of
    from appliance.accounts.users import claimed
    from appliance.cli.user import claim_url
    from appliance.face import read_web_file

    found = read_web_file(config.data_dir)
    if found is None:
        return
    if changed(path_of(config.data_dir), claimed):
        click.echo(f"Pages: {found.url}")
        return
    click.echo(
        "This box has no administrator yet. Open this address within 15 minutes to become it:\n\n"
        f"  {claim_url(config)}\n"
    )
    click.echo("Later: `appliance user claim` prints a new one.")


@click.command()
@click.option("--timeout", "timeout_s", default=60.0, show_default=True, help="Seconds to wait for the end.")
@click.pass_obj
def down(session: Session, timeout_s: float) -> None:
    """End the running box; jobs go on at the next start.

    \b
    Example:
      appliance down
    """
    from appliance.errors import BoxNotRunning, ProcessFailed
    from appliance.supervisor.lock import box_pid

    data_dir = session.config.data_dir
    pid = box_pid(data_dir)
    if pid is None:
        raise BoxNotRunning(f"no box runs on {data_dir}")
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while box_pid(data_dir) is not None:
        if time.monotonic() > deadline:
            raise ProcessFailed(
                f"the box (process {pid}) still runs after {timeout_s:.0f} s: `appliance down` again ends it now"
            )
        time.sleep(POLL_S)
    click.echo("the box is down")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def status(session: Session, as_json: bool) -> None:
    """Say in one screen whether the box is well, and why not. Exit code 1 when it is not.

    \b
    Example:
      appliance status
      appliance status --json
    """
    import msgspec

    found = asyncio.run(_status(session.config))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        _print_status(found)
    sys.exit(0 if found["verdict"] == "ok" else 1)


async def _status(config: Config) -> dict[str, Any]:
    from appliance.boxlink import connect
    from appliance.control.holds import strongest
    from appliance.control.ledger import read_holds
    from appliance.dispatcher.figures import last_sample, told
    from appliance.dispatcher.health import measure
    from appliance.store.queries import ServiceRow, Store
    from appliance.supervisor.lock import box_pid
    from bus.registry import Registry

    def stored() -> tuple[list[ServiceRow], dict[str, int]]:
        with Store(config.data_dir / "appliance.db") as store:
            return store.services(), store.job_counts()

    pid = await asyncio.to_thread(box_pid, config.data_dir)
    if pid is None:
        return {"verdict": "stopped", "reasons": [f"no box runs on {config.data_dir}"], "pid": None}
    async with await connect(config) as bus:
        depths, workers, state, holds, dispatcher, sample = await asyncio.gather(
            bus.queue_depths(),
            Registry(bus).all(),
            bus.stream_state(),
            read_holds(bus),
            measure(bus, config.data_dir / "appliance.db"),
            last_sample(bus),
        )
    services, jobs = await asyncio.to_thread(stored)
    reasons = [f"{s.service} is down since {s.since}: {s.reason}" for s in services if s.state == "down"]
    reporting = {worker.stage for worker in workers}
    drained = {hold.target for hold in holds if hold.mode == "drain"}
    wanted = [stage for stage in depths if getattr(config.workers, stage).min and stage not in drained]
    silent = [stage for stage in wanted if stage not in reporting]
    reasons += [f"no {stage} worker reports" for stage in silent]
    reasons += dispatcher.reasons
    return {
        "verdict": "degraded" if reasons else "ok",
        "reasons": reasons,
        "pid": pid,
        "jobs": jobs,
        "intake": strongest(hold for hold in holds if hold.target == "intake"),
        "holds": holds,
        "stages": {
            stage: {
                "pending": depth.pending,
                "in_flight": depth.in_flight,
                "oldest_s": depth.oldest_s,
                "mode": strongest(hold for hold in holds if hold.target == stage),
                "workers": sum(1 for w in workers if w.stage == stage),
            }
            for stage, depth in depths.items()
        },
        "services": {s.service: s.state for s in services},
        "stream": {"last_seq": state.last_seq, "bytes": state.bytes, "projected_seq": dispatcher.projected_seq},
        "dispatcher": {
            **{name: getattr(dispatcher, name) for name in dispatcher.__struct_fields__},
            "told": None if sample is None else told(sample),
        },
    }


def _print_status(found: dict[str, Any]) -> None:
    colour = {"ok": "green", "degraded": "yellow", "stopped": "red"}[found["verdict"]]
    click.secho(found["verdict"].upper(), fg=colour, bold=True)
    for reason in found["reasons"]:
        click.echo(f"  {reason}")
    if found["pid"] is None:
        return
    counts = ", ".join(f"{count} {state}" for state, count in found["jobs"].items()) or "none yet"
    click.echo(f"jobs: {counts}")
    health = found["dispatcher"]
    click.echo(
        f"events: {health['lag_events']} not in the database yet ({health['lag_s']:.1f} s behind), "
        f"{health['actions_waiting']} with actions to run; failed actions: {health['actions_retrying']} tried again, "
        f"{health['actions_given_up']} given up"
    )
    for hold in found["holds"]:
        click.echo(f"{hold.target} is {hold}")
    if health["told"] is not None:
        spans = health["told"]["delays_ms"].items()
        delays = ", ".join(f"{name} {p50:.1f} / {p99:.0f}" for name, (p50, p99) in spans if p50 is not None)
        click.echo(f"since the dispatcher's start, ms from stored, median / 99 %: {delays or 'nothing yet'}")
    click.echo(f"{'stage':12}{'workers':>8}{'waiting':>9}{'in work':>9}{'oldest':>9}")
    for stage, row in found["stages"].items():
        oldest = "-" if row["oldest_s"] is None else f"{row['oldest_s']:.0f} s"
        click.echo(f"{stage:12}{row['workers']:>8}{row['pending']:>9}{row['in_flight']:>9}{oldest:>9}")
