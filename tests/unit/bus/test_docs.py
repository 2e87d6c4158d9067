"""docs/BUS.md says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from bus.events import EVENT_TYPES
from bus.roles import RIGHTS, ROLES
from bus.streams import DAY_S, DEFAULTS, EVENTS, MIB, consumers, streams

TEXT = (Path(__file__).parents[3] / "docs" / "BUS.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The rows of the first table under `heading`, without its head."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) > 2, f"no table under {heading}"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def age(seconds: float) -> str:
    if seconds >= DAY_S:
        return f"{seconds / DAY_S:g} days"
    return "1 hour" if seconds == 3600 else f"{seconds:g} seconds"


def test_streams_table() -> None:
    rows = []
    for stream in streams():
        assert stream.storage is not None
        assert stream.max_bytes is not None
        assert stream.max_age is not None
        cap = f"{stream.max_bytes // MIB} MiB"
        if stream.max_msgs_per_subject > 0:
            cap += f", {stream.max_msgs_per_subject} a subject"
        rows.append([[str(stream.name)], stream.subjects, stream.storage.value, age(stream.max_age), cap])
    assert [[codes(row[0]), codes(row[1]), *row[2:]] for row in table("Streams")] == rows


def test_consumers_table() -> None:
    rows = []
    for stream, consumer in consumers():
        deliveries = "unlimited" if consumer.max_deliver == -1 else str(consumer.max_deliver)
        rows.append(
            [
                f"`{stream}`",
                f"`{consumer.name}`",
                f"`{consumer.filter_subject}`",
                f"{consumer.ack_wait:g} s",
                deliveries,
                str(consumer.max_ack_pending),
            ]
        )
    assert table("Consumers") == rows
    assert f"every {DEFAULTS.heartbeat_s:g} s" in TEXT
    assert DEFAULTS.heartbeat_s * 3 <= DEFAULTS.ack_wait_s
    assert f"message ids for {DEFAULTS.duplicate_window_s // 60} minutes" in TEXT.replace("\n", " ")


def test_subjects_table() -> None:
    heads = {codes(row[0])[0].split(".")[0] for row in table("Subjects")}
    declared = {subject.split(".")[0] for stream in streams() for subject in stream.subjects or []}
    assert heads - {"live"} == {head for head in declared if not head.startswith("$")}


def test_roles_table() -> None:
    nouns = {name.split(":")[0] for name in EVENT_TYPES}
    for row in table("Roles"):
        role = next(role for role in ROLES if role == codes(row[0])[0])
        publish = RIGHTS[role].publish
        everything = ">" in publish
        facts = {subject.split(".")[1] for subject in publish if subject.startswith("evt.")}
        if everything or facts == {">"}:
            assert row[1] == "all"
        else:
            assert set(codes(row[1])) == facts <= nouns
        allowed = [
            everything or any("CONSUMER.MSG.NEXT.EVENTS" in subject for subject in publish),
            everything or f"$JS.API.STREAM.PURGE.{EVENTS}" in publish,
            everything,
        ]
        assert [cell == "yes" for cell in row[2:]] == allowed, role
    assert [codes(row[0])[0] for row in table("Roles")] == list(ROLES)


def test_the_errors_exist() -> None:
    from bus import errors

    section = TEXT.partition("| Error |")[2].partition("\n\n")[0]
    named = [name for line in section.splitlines() for name in codes(line.split("|")[1])[:2] if line.count("|") > 3]
    assert len(named) == 7
    assert all(issubclass(getattr(errors, name), errors.BusError) for name in named)


def test_every_module_named_exists() -> None:
    root = Path(__file__).parents[3]
    for dotted in set(re.findall(r"`(bus\.[a-z_]+)", TEXT)):
        assert (root / f"{dotted.replace('.', '/')}.py").exists(), dotted


def test_every_trap_names_a_test_that_exists() -> None:
    root = Path(__file__).parents[2]
    code = "\n".join(
        path.read_text() for folder in ("unit/bus", "integration/bus") for path in sorted((root / folder).glob("*.py"))
    )
    for trap, _, tests in table("Traps of server and client library"):
        assert codes(tests), trap
        for test in codes(tests):
            assert f"def {test}(" in code, f"{test} is named for: {trap}"


def test_no_ordered_consumers_and_no_delays() -> None:
    """Traps 1 and 2: none of the library's ways into them is taken."""
    for path in sorted((Path(__file__).parents[3] / "bus").glob("*.py")):
        code = "\n".join(line.partition("#")[0] for line in path.read_text().splitlines())
        for call in ("ordered_consumer", ".key_value(", ".watch(", ".nak(", "b'-NAK {", ".fetch(", ".drain("):
            assert call not in code, f"{path.name}: {call}"
