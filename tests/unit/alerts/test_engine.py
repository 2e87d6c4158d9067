"""All alerts together: one cause, one message; silences, acknowledgements, reminders, restarts."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from appliance.alerts import ledger
from appliance.alerts.engine import ABSENT_S, Engine, Readings, Transition, after_restart
from appliance.alerts.orders import Ack, Orders, Silence
from appliance.alerts.rules import DEFAULT_RULES, Rule, Threshold, alert_id
from appliance.alerts.settings import Alerts
from appliance.alerts.words import message

USED = Rule(id="used", signal="disk.data.used", says="full", warning=Threshold(85, 80), critical=Threshold(95, 90))
FLOOR = Rule(id="floor", signal="disk.data.floor", says="floor", critical=Threshold(1, 1.25), inhibits=("used",))
OOM = Rule(id="oom", signal="mem.oom", says="oom", critical=Threshold(1, 0), latched=True)
RULES = (USED, FLOOR, OOM)
NOBODY = Orders()
DEFAULT = Alerts()
WALL = 1_800_000_000.0


class Run:
    """An engine with a clock."""

    def __init__(self, rules: tuple[Rule, ...] = RULES, settings: Alerts = DEFAULT) -> None:
        self.engine = Engine(rules, settings)
        self.now = 0.0

    def step(
        self, readings: Readings, orders: Orders = NOBODY, *, after_s: float = 1.0, grace: bool = False
    ) -> list[str]:
        return [
            f"{t.kind} {t.alert}{' muted' if t.muted_by else ''}" for t in self.say(readings, orders, after_s, grace)
        ]

    def say(
        self, readings: Readings, orders: Orders = NOBODY, after_s: float = 1.0, grace: bool = False
    ) -> list[Transition]:
        self.now += after_s
        return self.engine.step(self.now, WALL + self.now, readings, orders, may_raise=not grace)


def used(value: float | None, device: str = "data") -> Readings:
    return {"disk.data.used": {device: value}}


def silence(rule: str, for_s: float, device: str = "*") -> Orders:
    made = Silence(id="s1", rule=rule, device=device, until_s=WALL + for_s, author="me", reason="r", made_s=WALL)
    return Orders(silences=(made,))


def test_one_alert_a_rule_and_device() -> None:
    run = Run()
    both: Readings = {"disk.data.used": {"data": 90.0, "GPU-7f/x y": 96.0}}
    assert run.step(both) == ["raised used-data", "raised used-gpu-7f-x-y"]
    assert [run.step(both) for _ in range(100)] == [[]] * 100
    assert [entry.track.level for entry in run.engine.active()] == ["warning", "critical"]


def test_nothing_in_the_first_minutes_and_then_what_is_still_so() -> None:
    run = Run()
    assert [run.step(used(99), grace=True) for _ in range(120)] == [[]] * 120
    assert run.step(used(99)) == ["raised used-data"]


def test_a_value_that_crosses_twenty_times_is_two_notices_one_flapping_and_one_end() -> None:
    """At one reading a second, by the default rule of a full disk. Nobody is told of an improvement."""
    (rule,) = [rule for rule in DEFAULT_RULES if rule.id == "disk.data.used"]
    run = Run((rule,))
    told: list[str] = []

    def reads(value: float, seconds: float) -> None:
        for _ in range(int(seconds)):
            told.extend(change.kind for change in run.say(used(value)) if change.kind != "improved")

    for _ in range(10):
        reads(90, rule.for_s + 2)
        reads(50, rule.hold_s + 2)
    assert told.count("flapping") == 1
    assert len(told) - told.count("flapping") <= 2
    reads(50, DEFAULT.flap_calm_s + 2)
    assert told[-1] == "cleared"
    assert told.count("cleared") <= 2
    settled = len(told)
    reads(50, 4000)
    assert len(told) == settled


def test_one_cause_mutes_what_follows_from_it() -> None:
    run = Run()
    both: Readings = {**used(96), "disk.data.floor": {"data": 0.5}}
    assert run.step(both) == ["raised used-data muted", "raised floor-data"]
    assert run.step({**used(70), "disk.data.floor": {"data": 0.5}}) == ["cleared used-data muted"]
    assert run.step({**used(70), "disk.data.floor": {"data": 3.0}}) == ["cleared floor-data"]


def test_what_was_muted_and_goes_on_is_told_when_the_cause_is_gone() -> None:
    run = Run()
    run.step({**used(96), "disk.data.floor": {"data": 0.5}})
    assert run.step({**used(96), "disk.data.floor": {"data": 3.0}}) == ["cleared floor-data", "unmuted used-data"]
    assert run.step({**used(96), "disk.data.floor": {"data": 3.0}}) == []


def test_another_device_is_not_muted() -> None:
    run = Run()
    readings: Readings = {"disk.data.used": {"other": 96.0}, "disk.data.floor": {"data": 0.5}}
    assert run.step(readings) == ["raised used-other", "raised floor-data"]


def test_a_silence_ends_by_itself_and_then_it_is_told() -> None:
    run = Run()
    orders = silence("us*", 60)
    assert run.step(used(90), orders) == ["raised used-data muted"]
    assert run.step(used(90), orders, after_s=10) == []
    assert run.step(used(90), orders, after_s=60) == ["unmuted used-data"]
    assert run.step(used(70), orders) == ["cleared used-data"]


def test_a_silence_of_one_device() -> None:
    run = Run()
    readings: Readings = {"disk.data.used": {"data": 90.0, "os": 90.0}}
    assert run.step(readings, silence("used", 600, "OS")) == ["raised used-data", "raised used-os muted"]


def test_who_was_not_told_of_the_beginning_is_not_told_of_the_end() -> None:
    run = Run()
    run.step(used(90), silence("used", 3600))
    assert run.step(used(70), silence("used", 3600)) == ["cleared used-data muted"]


def test_an_acknowledgement_counts_for_what_came_before_it() -> None:
    run = Run()
    assert run.step({"mem.oom": {"host": 1.0}}) == ["raised oom"]
    quiet: Readings = {"mem.oom": {"host": 0.0}}
    early = Orders(acks=(Ack(alert="oom", at_s=WALL - 100, author="me"),))
    assert run.step(quiet, early) == []
    late = Orders(acks=(Ack(alert="oom", at_s=WALL + run.now, author="me"),))
    assert run.step(quiet, late) == ["cleared oom"]
    assert run.step({"mem.oom": {"host": 2.0}}, late, after_s=5) == ["raised oom"]
    assert run.step(quiet, late) == []


def test_a_critical_alert_is_repeated_until_somebody_has_seen_it() -> None:
    run = Run(settings=Alerts(remind_after_s=600, remind_every_s=3600))
    assert run.step(used(99)) == ["raised used-data"]
    said = [(run.now, kinds) for _ in range(900) if (kinds := run.step(used(99), after_s=10))]
    assert [kinds for _, kinds in said] == [["reminder used-data"]] * 3
    assert [at for at, _ in said] == [601, 4201, 7801]
    acked = Orders(acks=(Ack(alert="used-data", at_s=WALL + run.now, author="me"),))
    assert [run.step(used(99), acked, after_s=10) for _ in range(900)] == [[]] * 900


def test_a_warning_is_not_repeated() -> None:
    run = Run(settings=Alerts(remind_after_s=600))
    run.step(used(90))
    assert [run.step(used(90), after_s=10) for _ in range(900)] == [[]] * 900


def test_a_device_that_is_gone_clears_its_alert_and_is_forgotten() -> None:
    run = Run()
    run.step(used(90))
    assert [run.step({}, after_s=10) for _ in range(59)] == [[]] * 59
    (gone,) = run.say({}, after_s=ABSENT_S)
    assert (gone.kind, gone.gone) == ("cleared", True)
    assert "not reported any more" in message(gone, "/data")
    for _ in range(70):
        run.step({}, after_s=10)
    assert run.engine.entries() == []


def test_values_of_healthy_devices_leave_nothing_behind() -> None:
    run = Run()
    for number in range(5000):
        run.step(used(50, f"d{number}"))
    assert run.engine.entries() == []


def test_no_flood_of_devices_fills_the_memory() -> None:
    run = Run()
    for number in range(700):
        run.step(used(99, f"d{number}"))
    assert len(run.engine.entries()) <= 512


def test_over_a_restart(tmp_path: Path) -> None:
    run = Run()
    run.step(used(90), silence("used", 3600))
    run.step({"mem.oom": {"host": 1.0}, **used(90)}, silence("used", 3600))
    ledger.save(tmp_path, run.engine.entries())
    again = Run()
    again.now = run.now + 30
    again.engine = Engine(RULES, Alerts(), ledger.load(tmp_path, again.now))
    assert again.step(used(90), silence("used", 3600)) == []
    assert {entry.id for entry in again.engine.active()} == {"used-data", "oom"}
    assert again.step(used(70), silence("used", 3600)) == ["cleared used-data muted"]


def test_over_a_reboot_the_clock_starts_anew(tmp_path: Path) -> None:
    run = Run()
    run.now = 1_000_000.0
    run.step(used(90))
    entries = after_restart(run.engine.entries(), 5.0, same_boot=False)
    again = Run()
    again.now = 5.0
    again.engine = Engine(RULES, Alerts(), entries)
    assert again.step(used(90)) == []
    assert again.step(used(70)) == ["cleared used-data"]


def test_a_damaged_ledger_is_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ledger.FILE).write_bytes(b'{"version":1,"boot"')
    assert ledger.load(tmp_path, 0.0) == []


def test_ids_fit_into_a_subject() -> None:
    from bus.subjects import token

    for rule in DEFAULT_RULES:
        for device in ("host", "data", "GPU-8a6d1f2c-1111-2222-3333-444455556666", "coretemp Package id 0", "überall"):
            token(alert_id(rule.id, device))


SIGNALS = ("disk.data.used", "disk.data.floor", "mem.oom")
rounds = st.lists(
    st.tuples(
        st.sampled_from([1.0, 10.0, 100.0, 1000.0]),
        st.dictionaries(
            st.sampled_from(SIGNALS),
            st.dictionaries(
                st.sampled_from(["data", "os"]), st.one_of(st.none(), st.sampled_from([0.0, 1.0, 2.0, 87.0, 99.0]))
            ),
        ),
        st.sampled_from([NOBODY, silence("used", 500), silence("*", 3000)]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=40,
)


@given(rounds)
def test_who_follows_the_transitions_knows_what_is_raised(
    taken: list[tuple[float, dict[str, dict[str, float | None]], Orders, bool, bool]],
) -> None:
    """The read model sees transitions only: folding them must give exactly what the engine says is raised."""
    run = Run()
    raised: dict[str, str] = {}
    told: set[str] = set()
    for after_s, readings, orders, grace, acks in taken:
        if acks:
            seen = tuple(Ack(alert=entry.id, at_s=WALL + run.now, author="me") for entry in run.engine.active())
            orders = Orders(silences=orders.silences, acks=seen)
        for change in run.say(readings, orders, after_s, grace):
            if change.kind == "cleared":
                assert change.alert in raised
                del raised[change.alert]
                assert change.muted_by or change.alert in told, "an all-clear for what nobody heard of"
                told.discard(change.alert)
            else:
                assert (change.kind == "raised") == (change.alert not in raised) or change.kind == "flapping"
                raised[change.alert] = change.level
                if change.muted_by is None:
                    told.add(change.alert)
        assert raised == {entry.id: entry.track.level for entry in run.engine.active()}
