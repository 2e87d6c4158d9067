"""The `hardware` section of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class Hardware(Struct, frozen=True, kw_only=True):
    """The hardware monitor."""

    enabled: Annotated[bool, Meta(description="Whether the monitor runs. false: no host telemetry, no alerts.")] = True
    interval_s: Annotated[float, Meta(ge=0.2, le=60, description="Seconds between two samples.")] = 1.0
    gpu: Annotated[
        Literal["auto", "off"],
        Meta(description="auto: read NVIDIA cards when a driver is there. off: never touch the driver."),
    ] = "auto"
