"""Few messages, nothing lost, nothing unbounded."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from appliance.alerts.grouping import MAX_GROUPS, MAX_LINES, MAX_TEXT, Grouper, Message, Notice, Noun
from appliance.alerts.notifier import notice
from appliance.alerts.rules import Severity
from appliance.alerts.settings import Alerts, Notify
from bus.events import AlertCleared, AlertRaised, ClipFailed, JobCompleted, JobFailed, ServiceDown
from bus.ids import new_id

GROUP_S, URGENT_S = 60.0, 5.0


def grouper() -> Grouper:
    return Grouper("box", group_s=GROUP_S, urgent_s=URGENT_S)


def failure(text: str = "job x failed", group: str = "cut crashed") -> Notice:
    return Notice(noun="failure", group=group, severity="warning", text=text)


def play(found: Grouper, notices: list[tuple[float, Notice]], until: float) -> list[tuple[float, Message]]:
    """Every message with its time, when the caller wakes exactly when told to."""
    messages = []

    def send_until(at: float) -> None:
        while (due := found.next_at()) is not None and due <= at:
            message = found.due(due)
            assert message is not None
            messages.append((due, message))

    for at, one in notices:
        send_until(at)
        found.add(at, one)
    send_until(until)
    return messages


def test_a_thousand_failures_in_a_minute_are_one_message() -> None:
    notices = [(n * 0.06, failure(f"job {n} failed at cut: crashed")) for n in range(1000)]
    ((at, message),) = play(grouper(), notices, 10_000)
    assert at == 60
    assert message.title == "box: 1000 failures"
    assert message.body.startswith("job 0 failed at cut: crashed (×1000)\n")
    assert message.notices == 1000
    assert len(message.body) < 1000


def test_a_critical_alert_does_not_wait_a_minute() -> None:
    alert = Notice(noun="alert", group="disk", severity="critical", text="CRITICAL: full")
    ((at, message),) = play(grouper(), [(0.0, failure()), (10.0, alert)], 10_000)
    assert at == 15
    assert message.title == "box: 1 alert, 1 failure"
    assert message.severity == "critical"
    assert message.body.splitlines()[0] == "CRITICAL: full", "the worst stands first"


nouns: st.SearchStrategy[Noun] = st.sampled_from(["alert", "all-clear", "failure"])
severities: st.SearchStrategy[Severity] = st.sampled_from(["info", "warning", "critical"])
groups = st.integers(0, 80).map(str)
texts = st.sampled_from(["", "short", "two\nlines\u2028three", "long " * 200])
notices = st.lists(
    st.tuples(
        st.integers(0, 120).map(float),  # whole seconds: their sums are exact
        st.builds(Notice, noun=nouns, group=groups, severity=severities, text=texts),
    ),
    max_size=80,
)


@given(notices)
def test_everything_is_told_once_and_never_too_often(taken: list[tuple[float, Notice]]) -> None:
    now, timed = 0.0, []
    for wait_s, one in taken:
        now += wait_s
        timed.append((now, one))
    messages = play(grouper(), timed, now + 10_000)
    assert sum(message.notices for _, message in messages) == len(taken)
    times = [at for at, _ in messages]
    assert all(later - earlier >= GROUP_S for earlier, later in pairwise(times))
    for at, _ in timed:
        assert any(at <= told <= at + 2 * GROUP_S for told in times), "a notice waited too long"
    for _, message in messages:
        assert len(message.body.split("\n")) <= MAX_LINES + 1
        assert len(message.body) <= (MAX_LINES + 1) * (MAX_TEXT + 20)


def test_more_kinds_than_are_kept_are_counted_together() -> None:
    found = grouper()
    for number in range(500):
        found.add(0.0, failure(f"text {number}", f"group {number}"))
    message = found.due(60.0)
    assert message is not None
    assert message.title == "box: 500 failures"
    assert len(message.body.splitlines()) == MAX_LINES + 1
    assert MAX_GROUPS < 500


def test_what_is_told_and_what_is_not() -> None:
    job = new_id()
    settings = Notify()

    def told(event: object) -> str | None:
        found = notice(event, settings)  # type: ignore[arg-type]
        return None if found is None else found.text

    def raised(**more: object) -> AlertRaised:
        return AlertRaised(**{"alert": "disk-x", "severity": "critical", "message": "Full.", **more})  # type: ignore[arg-type]

    assert told(raised()) == "CRITICAL: Full."
    assert told(raised(severity="info")) is None
    assert told(raised(muted_by="silence s1")) is None
    assert told(raised(transition="improved")) is None
    assert told(raised(transition="flapping")) is not None
    assert told(AlertCleared(alert="disk-x", message="Over.", severity="warning")) == "Over."
    assert told(AlertCleared(alert="disk-x", message="Over.", severity="info")) is None
    assert told(AlertCleared(alert="disk-x", message="Over.", muted_by="silence s1")) is None
    failed = told(JobFailed(job=job, stage="download", attempts=3, error="no video", code="not-video"))
    assert failed == f"job {job} failed at download: no video"
    assert told(ClipFailed(job=job, clip=2, stage="cut", error="crashed", attempts=3, code="crash")) is not None
    assert told(ServiceDown(service="bus", reason="killed by SIGKILL", restarts=1)) is not None
    assert told(JobCompleted(job=job, clips_ready=1, clips_failed=0, seconds=1.0)) is None
    assert Alerts().boot_grace_s == 120
