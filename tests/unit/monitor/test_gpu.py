"""NVIDIA cards: what they tell, what they lack, what they lose; and what the default rules make of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pynvml
import pytest

from appliance.alerts.engine import Engine
from appliance.alerts.orders import Orders
from appliance.alerts.rules import DEFAULT_RULES
from appliance.alerts.settings import Alerts
from appliance.monitor.gpu import REOPEN_S, SLOW_S, GpuReader, load_nvml
from appliance.monitor.readings import Beside, ReadingsMaker
from appliance.monitor.sample import Gpu, GpuProcess, Gpus, Sample
from tests.unit.monitor.recorded import MIB, Err, RecordedNvml, geforce, l4

A, B = "GPU-aaaa0000-1111-2222-3333-444455556666", "GPU-bbbb0000-1111-2222-3333-444455556666"


class Box:
    """A reader over recorded NVML, and the default rules behind it, at 1 Hz."""

    def __init__(self, nvml: RecordedNvml | None) -> None:
        self.reader = GpuReader(lambda: nvml)
        self.engine = Engine(DEFAULT_RULES, Alerts())
        self.maker = ReadingsMaker()
        self.now = 1000.0
        self.gpus = Gpus(state="none")

    def run(self, seconds: int, work: int | None = 0) -> list[str]:
        """What was raised and cleared meanwhile."""
        said = []
        for _ in range(seconds):
            self.now += 1
            self.gpus = self.reader.read(self.now)
            sample = Sample(
                host="box", ts=datetime.now(UTC), interval_s=1, uptime_s=self.now, cpu=None, memory=None, disks=None,
                wear=None, networks=None, temperatures=None, gpus=self.gpus, clock_synchronised=None, ages_s={},
            )  # fmt: skip
            readings = self.maker.readings(self.now, sample, Beside(gpu_work=work))
            for change in self.engine.step(self.now, 1.8e9 + self.now, readings, Orders()):
                muted = " muted" if change.muted_by else ""
                said.append(f"{change.kind} {change.rule.id} {change.level} {change.device[:8]}{muted}")
        return said

    def card(self, uuid: str = A) -> Gpu:
        return next(card for card in self.gpus.cards if card.uuid == uuid)


def test_a_card_that_tells_everything() -> None:
    box = Box(RecordedNvml({A: l4()}))
    assert box.run(3) == []
    assert (box.gpus.state, box.gpus.driver) == ("ok", "580.95.05")
    assert box.card() == Gpu(
        uuid=A, index=0, name="NVIDIA L4", util_percent=97, memory_util_percent=41, encoder_percent=63,
        decoder_percent=22, memory_total_bytes=24570 * MIB, memory_used_bytes=9120 * MIB,
        memory_reserved_bytes=490 * MIB, temperature_c=71, slowdown_c=92, shutdown_c=97, power_w=71.9,
        power_limit_w=72.0, clock_sm_mhz=1245, clock_sm_max_mhz=2040, clock_memory_mhz=6250,
        clock_memory_max_mhz=6251, slowed_by=["power cap"], pstate=0, pcie_generation=4, pcie_width=16,
        pcie_rx_bytes_s=812_000_000, pcie_tx_bytes_s=96_000_000, ecc_corrected=0, ecc_uncorrected=0,
        ecc_corrected_ever=12, ecc_uncorrected_ever=0, remapped_rows=1, remap_pending=False, remap_failed=False,
        xids=0, vbios="95.04.29.00.06",
        processes=[
            GpuProcess(pid=4242, memory_bytes=9000 * MIB, sm_percent=93, encoder_percent=63, decoder_percent=22)
        ],
    )  # fmt: skip


def test_what_a_card_lacks_is_null_never_zero() -> None:
    box = Box(RecordedNvml({A: geforce()}))
    assert box.run(200) == []
    card = box.card()
    given = {name: getattr(card, name) for name in card.__struct_fields__ if getattr(card, name) is not None}
    assert given == {
        "uuid": A, "index": 0, "name": "NVIDIA GeForce RTX 3060", "lost": False, "util_percent": 3,
        "memory_util_percent": 1, "memory_total_bytes": 12288 * MIB, "memory_used_bytes": 611 * MIB,
        "temperature_c": 38, "fan_percent": 0, "slowed_by": [],
    }  # fmt: skip


def test_a_card_without_anything_is_still_a_card() -> None:
    box = Box(RecordedNvml({A: {"nvmlDeviceGetUUID": A}}))
    assert box.run(200, work=5) == []
    assert (box.card().lost, box.card().util_percent, box.card().slowed_by) == (False, None, None)


def test_what_is_not_supported_is_asked_once() -> None:
    nvml = RecordedNvml({A: geforce()})
    Box(nvml).run(100)
    assert nvml.asked.count("nvmlDeviceGetEncoderUtilization") == 1
    assert nvml.asked.count("nvmlDeviceGetMigMode") == 1
    assert nvml.asked.count("nvmlDeviceGetUtilizationRates") == 100
    assert nvml.asked.count("nvmlDeviceGetName") == 1 + int(99 // SLOW_S)
    assert nvml.asked.count("nvmlDeviceGetPowerUsage") == 100, "an unknown error may pass"


def test_heat_slows_the_card() -> None:
    hot = RecordedNvml({A: l4(nvmlDeviceGetTemperature=90)})
    box = Box(hot)
    assert box.run(61) == ["raised gpu.temp critical GPU-aaaa"]
    hot.cards[A]["nvmlDeviceGetCurrentClocksEventReasons"] = (
        pynvml.nvmlClocksEventReasonHwThermalSlowdown | pynvml.nvmlClocksEventReasonHwSlowdown
    )
    said = box.run(300)
    assert box.card().slowed_by == ["hardware slowdown", "hardware thermal"]
    assert said == ["raised gpu.throttle critical GPU-aaaa"]
    hot.cards[A].update(l4())
    said = box.run(1000)
    assert said == [
        "cleared gpu.temp ok GPU-aaaa",
        "improved gpu.throttle warning GPU-aaaa",
        "cleared gpu.throttle ok GPU-aaaa",
    ]


def test_a_power_cap_is_how_a_card_is_meant_to_run() -> None:
    assert Box(RecordedNvml({A: l4()})).run(1000) == []


def test_the_memory_fills_up() -> None:
    nvml = RecordedNvml({A: geforce()})
    box = Box(nvml)
    box.run(5)
    nvml.cards[A]["nvmlDeviceGetMemoryInfo"] = pynvml.c_nvmlMemory_t(100 * MIB, 1 * MIB, 99 * MIB)
    assert box.run(130) == ["raised gpu.mem critical GPU-aaaa"]


def test_an_xid_is_latched_and_belongs_to_its_card() -> None:
    nvml = RecordedNvml({A: l4(), B: l4()})
    box = Box(nvml)
    box.run(5)
    nvml.events = [(B, 79), (B, 31)]
    assert box.run(1) == ["raised gpu.xid critical GPU-bbbb"]
    assert (box.card(B).xids, box.card(B).last_xid, box.card(A).xids) == (2, 31, 0)
    assert box.run(400) == []
    assert [entry.id for entry in box.engine.active()] == [f"gpu-xid-{B.lower()}"]


def test_an_uncorrectable_memory_error() -> None:
    nvml = RecordedNvml({A: l4()})
    box = Box(nvml)
    box.run(40)
    nvml.cards[A]["nvmlDeviceGetTotalEccErrors", 1, 0] = 1
    assert box.run(int(SLOW_S) + 1) == ["raised gpu.ecc_unc critical GPU-aaaa"]


def test_old_errors_of_the_driver_raise_nothing_at_the_start() -> None:
    table = l4(nvmlDeviceGetRemappedRows=(3, 2, 0, 0))
    table["nvmlDeviceGetTotalEccErrors", 1, 0] = 7
    assert Box(RecordedNvml({A: table})).run(100) == []


def test_rows_taken_out_of_use() -> None:
    nvml = RecordedNvml({A: l4()})
    box = Box(nvml)
    box.run(40)
    nvml.cards[A]["nvmlDeviceGetRemappedRows"] = (1, 1, 1, 0)
    assert box.run(int(SLOW_S) + 1) == ["raised gpu.row_remap critical GPU-aaaa"]
    assert box.card().remap_pending is True


def test_a_card_falls_off_the_bus_and_comes_back() -> None:
    nvml = RecordedNvml({A: l4(), B: l4()})
    box = Box(nvml)
    box.run(5)
    nvml.cards[B]["everything"] = Err("GPU_IS_LOST")
    assert box.run(10) == []
    lost = box.card(B)
    assert (lost.lost, lost.name, lost.util_percent, lost.temperature_c) == (True, "NVIDIA L4", None, None)
    assert box.card(A).util_percent == 97, "the other card goes on"
    assert box.run(10) == ["raised gpu.lost critical GPU-bbbb"]
    del nvml.cards[B]["everything"]
    assert box.run(int(REOPEN_S) + 62) == ["cleared gpu.lost ok GPU-bbbb"]
    assert box.card(B).util_percent == 97
    assert nvml.opened >= 2


def test_a_lost_card_mutes_what_follows_from_it() -> None:
    nvml = RecordedNvml({A: l4(nvmlDeviceGetTemperature=91)})
    box = Box(nvml)
    assert box.run(70) == ["raised gpu.temp critical GPU-aaaa"]
    nvml.cards[A]["everything"] = Err("GPU_IS_LOST")
    said = box.run(700)
    assert said[0] == "raised gpu.lost critical GPU-aaaa"
    assert said[1:] == ["cleared gpu.temp ok GPU-aaaa muted"], "the temperature is not known any more"


def test_the_identity_is_the_uuid_not_the_index() -> None:
    nvml = RecordedNvml({A: l4(nvmlDeviceGetTemperature=91), B: l4()})
    box = Box(nvml)
    assert box.run(70) == ["raised gpu.temp critical GPU-aaaa"]
    nvml.cards["gone"] = nvml.cards.pop(A)  # the cards change places
    nvml.cards[A] = nvml.cards.pop("gone")
    box.reader.close()
    box.reader._opened_at = None
    assert box.run(70) == []
    assert [card.uuid for card in box.gpus.cards] == [B, A]


@pytest.mark.parametrize("answer", ["DRIVER_NOT_LOADED", "LIBRARY_NOT_FOUND", "NO_PERMISSION"])
def test_no_driver_is_no_fault(answer: str) -> None:
    box = Box(RecordedNvml({}, init=Err(answer)))
    assert box.run(400) == []
    assert (box.gpus.state, box.gpus.cards) == ("none", [])


def test_no_library_is_no_fault() -> None:
    box = Box(None)
    assert box.run(400) == []
    assert box.gpus == Gpus(state="none", note="no NVIDIA driver")


def test_a_driver_updated_under_a_running_kernel_is_a_fault() -> None:
    nvml = RecordedNvml({A: l4()}, init=Err("LIB_RM_VERSION_MISMATCH"))
    box = Box(nvml)
    assert box.run(20) == ["raised gpu.lost critical driver"]
    assert box.gpus.state == "failed"
    nvml.init = None
    assert box.run(int(REOPEN_S) + 62) == ["cleared gpu.lost ok driver"]


def test_the_driver_goes_away_while_the_card_was_there() -> None:
    nvml = RecordedNvml({A: l4()})
    box = Box(nvml)
    box.run(5)
    nvml.init = Err("DRIVER_NOT_LOADED")
    nvml.cards[A]["everything"] = Err("UNINITIALIZED")
    assert box.run(20) == ["raised gpu.lost critical GPU-aaaa"]
    assert box.card().lost


def test_a_card_is_idle_while_work_waits_for_it() -> None:
    idle = l4()
    idle["nvmlDeviceGetUtilizationRates"] = type("Rates", (), {"gpu": 2, "memory": 1})()
    nvml = RecordedNvml({A: idle})
    box = Box(nvml)
    assert box.run(900, work=0) == []
    assert box.run(605, work=3) == ["raised gpu.starved warning GPU-aaaa"]
    assert box.run(1205, work=3) == ["worsened gpu.starved critical GPU-aaaa"]
    assert box.run(200, work=0) == ["cleared gpu.starved ok GPU-aaaa"]
    idle["nvmlDeviceGetComputeRunningProcesses"] = []
    box.run(int(SLOW_S) + 1)
    assert box.run(1000, work=3) == [], "no process holds the card: the stages run on the processor"


def test_this_machine() -> None:
    """Whatever is here: with a driver the real card answers, without one nothing is wrong."""
    reader = GpuReader()
    gpus = reader.read(1.0)
    reader.close()
    if load_nvml() is None:
        assert gpus == Gpus(state="none", note="no NVIDIA driver")
    elif gpus.cards:
        assert gpus.cards[0].uuid.startswith("GPU-")
        assert gpus.cards[0].memory_total_bytes
