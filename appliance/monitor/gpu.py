"""NVIDIA cards by NVML: every field a card can tell, null for what it cannot. Blocking; has a thread of its own.

The library is looked for before its Python side is imported, so a machine without a driver pays nothing. A card is
known by its UUID. One that stops answering stays in the sample as `lost`, and NVML is opened anew to find it again.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
from collections.abc import Callable
from typing import Any

from appliance.monitor.gpu_fields import FAST, SLOW, Source
from appliance.monitor.sample import Gpu, Gpus

log = logging.getLogger(__name__)
LIBRARY = "libnvidia-ml.so.1"
REOPEN_S = 15.0
SLOW_S = 30.0
LOOK_S = 60.0
"""How often a machine without cards is asked whether it has one now."""
MAX_EVENTS = 64
LOST = frozenset({"GPU_IS_LOST", "RESET_REQUIRED", "UNINITIALIZED", "DRIVER_NOT_LOADED", "LIB_RM_VERSION_MISMATCH"})
"""Answers after which a handle is worth nothing. Anything else means only that this field cannot be told."""
NEVER = frozenset({"NOT_SUPPORTED", "FUNCTION_NOT_FOUND", "ARGUMENT_VERSION_MISMATCH", "NO_PERMISSION"})
"""Answers that will not change while the handle lives: the field is not asked again."""
DRIVER = "driver"
"""The device of alerts about the driver itself."""


def load_nvml() -> Any | None:
    """The NVML module, None when this machine has no NVIDIA driver."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    return importlib.import_module("pynvml")


class _Card:
    """An open handle, what was read slowly, and what the card does not support."""

    def __init__(self, handle: Any, uuid: str, index: int) -> None:
        self.handle = handle
        self.uuid = uuid
        self.index = index
        self.slow: dict[str, Any] = {}
        self.slow_at: float | None = None
        self.unsupported: set[str] = set()
        self.seen_us = 0
        """Time of the last process sample, for the driver's own buffer."""


class _CardLost(Exception):
    """The handle is worth nothing."""


class GpuReader:
    """Call `read` from one thread at a time, with the monotonic time. `load` gives the NVML module or None."""

    def __init__(self, load: Callable[[], Any | None] = load_nvml) -> None:
        self._load = load
        self._nvml: Any | None = None
        self._cards: list[_Card] = []
        self._known: dict[str, Gpu] = {}
        """Every card ever seen, as it was last, so that a lost one keeps its name and counters."""
        self._xids: dict[str, tuple[int, int | None]] = {}
        self._events: Any = None
        self._driver: str | None = None
        self._note = "no NVIDIA driver"
        self._failed = False
        self._opened_at: float | None = None

    def read(self, now: float) -> Gpus:
        """The cards. Never raises for the driver's sake: what does not work is `lost`, `failed` or null."""
        missing = {card.uuid for card in self._cards} != set(self._known)
        wait_s = REOPEN_S if missing or self._failed else LOOK_S
        if (missing or not self._cards) and (self._opened_at is None or now - self._opened_at >= wait_s):
            self._open(now)
        found: dict[str, Gpu] = {}
        if self._nvml is not None and self._cards:
            self._take_events()
            for card in list(self._cards):
                try:
                    found[card.uuid] = self._card(card, now)
                except _CardLost:
                    self._cards.remove(card)
                    self._opened_at = now
        for uuid, last in self._known.items():
            if uuid not in found:
                found[uuid] = Gpu(uuid=uuid, index=last.index, name=last.name, lost=True)
        self._known.update({uuid: card for uuid, card in found.items() if not card.lost})
        cards = sorted(found.values(), key=lambda card: card.index)
        if cards:
            return Gpus(state="failed" if self._failed else "ok", note=self._note, driver=self._driver, cards=cards)
        return Gpus(state="failed" if self._failed else "none", note=self._note, driver=self._driver)

    def close(self) -> None:
        nvml, self._nvml = self._nvml, None
        self._cards, self._events = [], None
        if nvml is not None:
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlShutdown()

    def _open(self, now: float) -> None:
        """Open NVML anew: only that finds a card again that was lost."""
        self.close()
        self._opened_at = now
        self._failed = False
        nvml = self._load()
        if nvml is None:
            self._failed, self._note = bool(self._known), "no NVIDIA driver"
            return
        try:
            nvml.nvmlInit()
            self._nvml = nvml
            self._driver = str(nvml.nvmlSystemGetDriverVersion())
            for index in range(nvml.nvmlDeviceGetCount()):
                self._open_card(nvml, index)
            self._note = "" if self._cards else "a driver but no card"
            self._listen(nvml)
        except nvml.NVMLError as error:
            name = _name(nvml, error)
            # A library without its kernel module is a machine without a card, unless there was one.
            calm = name in ("DRIVER_NOT_LOADED", "LIBRARY_NOT_FOUND", "NO_PERMISSION") and not self._known
            self._failed, self._note = not calm, f"NVML: {error}"
            if not calm:
                log.warning("the NVIDIA driver does not work", extra={"error": str(error)})

    def _open_card(self, nvml: Any, index: int) -> None:
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            self._cards.append(_Card(handle, str(nvml.nvmlDeviceGetUUID(handle)), index))
        except nvml.NVMLError as error:
            log.warning("a GPU does not answer", extra={"index": index, "error": str(error)})

    def _listen(self, nvml: Any) -> None:
        """Ask for XID errors of every card that can tell them."""
        try:
            self._events = nvml.nvmlEventSetCreate()
        except nvml.NVMLError:
            self._events = None
            return
        for card in self._cards:
            try:
                nvml.nvmlDeviceRegisterEvents(card.handle, nvml.nvmlEventTypeXidCriticalError, self._events)
                self._xids.setdefault(card.uuid, (0, None))
            except nvml.NVMLError:
                continue

    def _take_events(self) -> None:
        nvml = self._nvml
        if nvml is None or self._events is None:
            return
        for _ in range(MAX_EVENTS):
            try:
                event = nvml.nvmlEventSetWait_v2(self._events, 0)
                uuid = str(nvml.nvmlDeviceGetUUID(event.nvmlDevice))
            except nvml.NVMLError as error:
                if _name(nvml, error) != "TIMEOUT":
                    log.debug("no more XID events", extra={"error": str(error)})
                return
            count, _last = self._xids.get(uuid, (0, None))
            self._xids[uuid] = (count + 1, int(event.eventData))
            log.warning("XID error", extra={"gpu": uuid, "xid": int(event.eventData)})

    def _card(self, card: _Card, now: float) -> Gpu:
        nvml = self._nvml
        assert nvml is not None
        fields: dict[str, Any] = {}
        for name, source in FAST.items():
            fields.update(self._ask(nvml, card, name, source))
        if card.slow_at is None or now - card.slow_at >= SLOW_S:
            card.slow, card.slow_at = {}, now
            for name, source in SLOW.items():
                card.slow.update(self._ask(nvml, card, name, source))
        xids, last_xid = self._xids.get(card.uuid, (None, None))
        return Gpu(uuid=card.uuid, index=card.index, xids=xids, last_xid=last_xid, **card.slow, **fields)

    @staticmethod
    def _ask(nvml: Any, card: _Card, name: str, source: Source) -> dict[str, Any]:
        """The fields of one question; {} when this card cannot tell. Raises `_CardLost`."""
        if name in card.unsupported:
            return {}
        try:
            return source(nvml, card)
        except nvml.NVMLError as error:
            answer = _name(nvml, error)
            if answer in LOST:
                log.warning("a GPU is lost", extra={"gpu": card.uuid, "error": str(error)})
                raise _CardLost from error
            if answer in NEVER:
                card.unsupported.add(name)
            return {}


def _name(nvml: Any, error: Any) -> str:
    """`NOT_SUPPORTED` for an error with the code `NVML_ERROR_NOT_SUPPORTED`."""
    code = error.value
    for name in (*LOST, *NEVER, "TIMEOUT", "LIBRARY_NOT_FOUND"):
        if getattr(nvml, f"NVML_ERROR_{name}", None) == code:
            return name
    return "OTHER"
