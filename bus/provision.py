"""Makes the server's streams and consumers equal to their declaration in `bus.streams`. Idempotent.

Always writes the whole declaration and never what was read back: the client library drops fields that it does not
know, so a read-modify-write would remove them silently (trap 10).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import nats.errors
from msgspec import Struct
from nats.js.api import Base, ConsumerConfig, StreamConfig
from nats.js.client import JetStreamContext
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from bus.errors import BusUnavailable, ProvisioningError
from bus.streams import DEFAULTS, Limits, consumers, streams

_UNSET: tuple[object, ...] = (None, "", 0, -1, False, [], {})


class Drift(Struct, frozen=True):
    """One setting that was not as declared and has been repaired. `kind` tells a creation from a repair."""

    kind: str
    """`created` or `repaired`."""
    name: str
    """`EVENTS`, or `EVENTS/transcribe` for a consumer."""
    field: str = ""
    found: str = ""
    declared: str = ""


def _differences(declared: Base, found: Base) -> dict[str, tuple[Any, Any]]:
    """Declared fields that the server holds differently: name → (found, declared), in wire form."""
    want: Mapping[str, Any] = declared.as_dict()
    have: Mapping[str, Any] = found.as_dict()
    result: dict[str, tuple[Any, Any]] = {}
    for name in sorted({*want, *have} - {"metadata", "template_owner", "cluster", "placement"}):
        wanted, got = want.get(name), have.get(name)
        if wanted == got or (wanted in _UNSET and (name not in want or got in _UNSET)):
            continue  # unset here means the server's own default, which it fills in
        result[name] = (got, wanted)
    return result


async def _provision_stream(js: JetStreamContext, declared: StreamConfig) -> list[Drift]:
    name = str(declared.name)
    try:
        found = await js.stream_info(name)
    except NotFoundError:
        await js.add_stream(declared)  # `did_create` is True even for an existing stream (trap 11): we looked first
        return [Drift("created", name)]
    different = _differences(declared, found.config)
    if not different:
        return []
    try:
        await js.update_stream(declared)
    except APIError as error:
        raise _immutable(name, different, error) from error
    return [Drift("repaired", name, key, str(got), str(want)) for key, (got, want) in different.items()]


async def _provision_consumer(js: JetStreamContext, stream: str, declared: ConsumerConfig) -> list[Drift]:
    name = f"{stream}/{declared.name}"
    try:
        found = await js.consumer_info(stream, str(declared.name))
    except NotFoundError:
        await js.add_consumer(stream, declared)
        return [Drift("created", name)]
    different = _differences(declared, found.config)
    if not different:
        return []
    try:
        await js.add_consumer(stream, declared)
    except APIError as error:
        raise _immutable(name, different, error) from error
    return [Drift("repaired", name, key, str(got), str(want)) for key, (got, want) in different.items()]


def _immutable(name: str, different: Mapping[str, tuple[Any, Any]], error: APIError) -> ProvisioningError:
    def shown(value: Any) -> str:
        return repr(value.value if isinstance(value, Enum) else value)

    fields = ", ".join(f"{key} is {shown(got)}, declared {shown(want)}" for key, (got, want) in different.items())
    return ProvisioningError(
        f"{name} exists with other settings that the server will not change ({error.description}): {fields}. "
        "Back the data folder up, delete what differs with the nats CLI, and start again"
    )


async def provision(js: JetStreamContext, limits: Limits = DEFAULTS) -> list[Drift]:
    """Creates what is missing, repairs what drifted, and says what it did; an empty list means all was as declared.

    Raises ProvisioningError naming the field where the server refuses the change, BusUnavailable without an answer.
    """
    drift: list[Drift] = []
    try:
        for stream in streams(limits):
            drift += await _provision_stream(js, stream)
        for stream_name, consumer in consumers(limits):
            drift += await _provision_consumer(js, stream_name, consumer)
    except APIError as error:
        if isinstance(error, ServiceUnavailableError) and not error.err_code:  # nobody serves the API (yet)
            raise BusUnavailable("JetStream is not ready") from error
        raise ProvisioningError(f"the server refused to provision: {error.description} ({error.err_code})") from error
    except nats.errors.Error as error:
        raise BusUnavailable(f"the bus did not answer while streams were provisioned: {error}") from error
    return drift
