"""`appliance hardware`: the latest sample of the machine and the alerts that are raised."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from appliance.cli import Session

if TYPE_CHECKING:
    from appliance.monitor.latest import HostView
    from appliance.monitor.sample import Gpu, Sample


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array, an object a machine.")
@click.pass_obj
def hardware(session: Session, as_json: bool) -> None:
    """Show what the box's machines are doing, and which alerts are raised.

    Exit code 1 when there is no sample or it is stale.

    \b
    Example:
      appliance hardware
      appliance hardware --json
    """
    import sys

    import msgspec

    views = asyncio.run(_views(session))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(views)).decode())
    elif not views:
        click.echo("no machine has sent a sample: the monitor is off (hardware.enabled) or has not started yet")
    else:
        for view in views:
            _print(view)
    sys.exit(0 if views and not any(view.stale for view in views) else 1)


async def _views(session: Session) -> list[HostView]:
    from appliance.boxlink import connect
    from appliance.monitor.latest import latest

    async with await connect(session.config) as bus:
        return await latest(bus)


def _print(view: HostView) -> None:
    sample = view.sample
    head = f"{sample.host}, up {sample.uptime_s / 3600:.1f} h"
    click.secho(head + (f"  STALE: last sample {view.age_s:.0f} s ago" if view.stale else ""), bold=True)
    for name, text in _lines(sample):
        click.echo(f"  {name:18}{text}")
    if not view.alerts:
        click.echo(f"  {'alerts':18}none")
    colours = {"info": "blue", "warning": "yellow", "critical": "red"}
    for alert in view.alerts:
        marks = [mark for mark, on in (("flapping", alert.flapping), ("acknowledged", alert.acknowledged)) if on]
        marks += [f"muted by {alert.muted_by}"] if alert.muted_by else []
        suffix = f" [{', '.join(marks)}]" if marks else ""
        click.secho(f"  {alert.severity.upper():10}{alert.alert}: {alert.message}{suffix}", fg=colours[alert.severity])


def _lines(sample: Sample) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    if (cpu := sample.cpu) is not None:
        pressure = "" if cpu.pressure is None else f", pressure {cpu.pressure.avg60_percent:.0f} %"
        load = f"{cpu.load_1m:.2f} {cpu.load_5m:.2f} {cpu.load_15m:.2f}"
        lines.append(("cpu", f"{_percent(cpu.busy_percent)} of {cpu.cores} cores, load {load}{pressure}"))
    if (memory := sample.memory) is not None:
        swap = f", swap {_size(memory.swap_used_bytes)}" if memory.swap_total_bytes else ""
        free = f"{_size(memory.available_bytes)} of {_size(memory.total_bytes)} available"
        lines.append(("memory", f"{free}{swap}"))
    for disk in sample.disks or ():
        full = "" if disk.full_in_s is None else f", full in {disk.full_in_s / 3600:.0f} h"
        free = f"{_size(disk.free_bytes)} of {_size(disk.total_bytes)} free ({disk.used_percent:.0f} % used){full}"
        lines.append((f"disk {'/'.join(disk.roles)}", f"{free}  {disk.path}"))
    for card in sample.networks or ():
        if card.received_bytes_s is not None and card.sent_bytes_s is not None:
            rates = f"in {_size(card.received_bytes_s)}/s, out {_size(card.sent_bytes_s)}/s"
            lines.append((f"net {card.name}"[:17], rates))
    if sample.temperatures:
        hottest = max(sample.temperatures, key=lambda sensor: sensor.celsius)
        lines.append(
            ("temperature", f"{hottest.celsius:.0f} °C {hottest.sensor}, the hottest of {len(sample.temperatures)}")
        )
    if (gpus := sample.gpus) is not None:
        if not gpus.cards:
            lines.append(("gpu", f"{gpus.state}: {gpus.note}" if gpus.state == "failed" else f"none ({gpus.note})"))
        lines += [(f"gpu {gpu.index}", _gpu(gpu)) for gpu in gpus.cards]
    return lines


def _gpu(gpu: Gpu) -> str:
    if gpu.lost:
        return f"{gpu.name or gpu.uuid}: LOST"
    parts = [gpu.name or gpu.uuid, f"{_percent(gpu.util_percent)} busy"]
    if gpu.memory_used_bytes is not None and gpu.memory_total_bytes is not None:
        parts.append(f"{_size(gpu.memory_used_bytes)} of {_size(gpu.memory_total_bytes)}")
    parts += [f"{gpu.temperature_c} °C"] if gpu.temperature_c is not None else []
    parts += [f"{gpu.power_w:.0f} W"] if gpu.power_w is not None else []
    parts += [f"slowed by {', '.join(gpu.slowed_by)}"] if gpu.slowed_by else []
    return ", ".join(parts)


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0f} %"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
