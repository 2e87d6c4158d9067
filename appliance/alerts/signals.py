"""The signals that rules may look at: name, unit and meaning. `appliance.monitor.readings` computes them."""

from __future__ import annotations

from msgspec import Struct


class Signal(Struct, frozen=True, array_like=True):
    """What a signal measures. A device that cannot tell it has no reading."""

    unit: str
    device: str
    """What a device of it is."""
    meaning: str


SIGNALS: dict[str, Signal] = {
    "disk.data.used": Signal("%", "volume", "used share of the data volume, as `df` counts it"),
    "disk.data.floor": Signal("× reserve", "volume", "free bytes beyond what open jobs will need, by the reserve"),
    "disk.data.ttf": Signal("h", "volume", "hours until the data volume is full, when its last hour and its last six "
                            "agree; the calmer of both"),
    "disk.os.used": Signal("%", "volume", "used share of the system volume, when it is not the data volume"),
    "disk.nats.used": Signal("%", "volume", "used share of the bus's volume, when it is neither"),
    "disk.inodes": Signal("%", "volume", "used share of a volume's inodes"),
    "disk.busy": Signal("%", "volume", "share of the time that the volume's disk was busy"),
    "disk.mount": Signal("", "volume", "1 when the marker file in the data folder is missing or cannot be written"),
    "disk.wear": Signal("%", "disk", "used share of an eMMC disk's life"),
    "cpu.busy": Signal("%", "host", "busy share of all cores, without waiting for disks"),
    "cpu.load": Signal("per core", "host", "load of the last minute divided by the number of cores"),
    "cpu.pressure": Signal("%", "host", "share of 5 minutes in which work waited for a core (PSI some avg300)"),
    "cpu.iowait": Signal("%", "host", "share of the last 10 minutes that cores waited for disks"),
    "mem.available": Signal("%", "host", "share of memory that programs can still have"),
    "mem.pressure": Signal("%", "host", "share of the last minute in which work waited for memory (PSI some avg60)"),
    "mem.oom": Signal("kills", "host", "processes that the kernel killed for memory since the last sample"),
    "swap.used": Signal("%", "host", "used share of swap"),
    "temp": Signal("°C", "sensor", "temperature of a sensor"),
    "gpu.util": Signal("%", "GPU", "busy share of the card"),
    "gpu.mem": Signal("%", "GPU", "used share of the card's memory"),
    "gpu.temp": Signal("°C from slowdown", "GPU", "temperature minus the card's own slowdown limit, 90 °C when it tells"
                       " none"),
    "gpu.throttle": Signal("% of 5 min", "GPU", "share of the samples of 5 minutes slowed by heat or power brake"),
    "gpu.xid": Signal("errors", "GPU", "XID errors since the last sample"),
    "gpu.ecc_unc": Signal("errors", "GPU", "uncorrectable memory errors since the last sample"),
    "gpu.row_remap": Signal("rows", "GPU", "rows or pages taken out of use, and failures to, since the last sample"),
    "gpu.lost": Signal("", "GPU", "1 when a card that was there does not answer, or the driver fails"),
    "gpu.starved": Signal("s", "GPU", "seconds that a card with processes was below 10 % while GPU stages had work"),
    "gpu.enc": Signal("%", "GPU", "busy share of the encoder"),
    "gpu.dec": Signal("%", "GPU", "busy share of the decoder"),
    "monitor.blind": Signal("s overdue", "collector", "seconds that a collector's next reading is overdue"),
    "clock.sync": Signal("", "host", "1 when the kernel says that the clock is not synchronised, from 17 minutes up"),
    "bus.events.used": Signal("%", "host", "used share of the event stream's cap"),
}  # fmt: skip
