"""The pool's rules with real processes of the smallest kind: who leaves, who stays, never more than may be."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.errors import ProcessFailed
from appliance.supervisor.lock import try_lock, wait_for_lock
from tests.unit.supervisor.staff import SCRIPT, WAIT_S, Staff


@pytest.fixture
async def staff(tmp_path: Path) -> AsyncIterator[Staff]:
    staff = Staff(tmp_path, most=3)
    yield staff
    await staff.pool.stop(0)


async def test_it_grows_to_what_is_wanted_and_the_idle_leave_first(staff: Staff) -> None:
    await asyncio.to_thread(staff.touch, "3.busy")
    await staff.pool.start(1)
    assert staff.ready == ["cut-1"]
    staff.pool.want(3)
    await staff.until(lambda: len(staff.ready) == 3)
    staff.pool.want(1)
    await staff.until(lambda: len(staff.left) == 2)
    assert sorted(staff.left) == ["cut-1", "cut-2"], "the third has work"
    assert (staff.names(), staff.deaths) == (["cut-3"], [])


async def test_work_is_finished_before_a_worker_leaves_and_it_counts_until_then(staff: Staff) -> None:
    for number in (1, 2, 3):
        await asyncio.to_thread(staff.touch, f"{number}.busy")
    await staff.pool.start(3)
    staff.pool.want(0)
    staff.pool.want(2)
    await asyncio.sleep(0.2)  # that nobody comes or goes is the test
    assert (staff.names(), staff.left) == (["cut-1", "cut-2", "cut-3"], [])
    await asyncio.to_thread(staff.touch, "2.done")
    await staff.until(lambda: staff.left == ["cut-2"] and len(staff.ready) == 4)
    assert staff.ready[-1] == "cut-2"
    for number in (1, 3):
        await asyncio.to_thread(staff.touch, f"{number}.done")
    await staff.until(lambda: len(staff.left) == 3 and len(staff.ready) == 5)
    assert len(staff.names()) == 2
    assert staff.deaths == []


async def test_a_killed_worker_comes_back_but_a_retired_one_that_is_killed_does_not(staff: Staff) -> None:
    await asyncio.to_thread(staff.touch, "1.busy")
    await staff.pool.start(1)
    staff.pool.kill()
    await staff.until(lambda: len(staff.ready) == 2)
    staff.pool.want(0)
    staff.pool.kill()
    await staff.until(lambda: staff.left == ["cut-1"])
    assert [(death.reason, death.status.job) for death in staff.deaths] == [("killed by SIGKILL", "j")] * 2
    assert staff.names() == []


async def test_one_that_is_retired_before_it_was_ready_leaves_quietly(staff: Staff) -> None:
    staff.pool.want(2)
    staff.pool.want(1)
    await asyncio.sleep(0)
    staff.pool.want(0)
    await staff.until(lambda: len(staff.left) == 2)
    assert (staff.names(), staff.deaths) == ([], [])
    staff.pool.want(1)
    await staff.until(lambda: bool(staff.ready))


async def test_the_worker_that_said_its_name_is_found(staff: Staff) -> None:
    await staff.pool.start(1)
    (child,) = staff.pool.children
    assert child.pid is not None
    assert staff.pool.of_worker(str(child.pid)) is child
    assert staff.pool.of_worker("another") is None
    child.kill("frozen: it does nothing")
    await staff.until(lambda: len(staff.ready) == 2)
    assert [death.reason for death in staff.deaths] == ["frozen: it does nothing"]


async def test_an_earlier_copy_that_still_holds_the_lock_only_delays_a_worker(staff: Staff) -> None:
    lock = await asyncio.to_thread(try_lock, staff.folder / "cut-1.lock")
    assert lock is not None
    staff.start_timeout_s = 0.2
    with pytest.raises(ProcessFailed, match=r"cut-1 was not ready after 0 s"):
        await staff.pool.start(1)
    await staff.until(lambda: len(staff.deaths) >= 2)
    assert "another process holds" in staff.deaths[0].reason
    os.close(lock)
    await staff.until(lambda: staff.ready == ["cut-1"])


async def test_whatever_is_wanted_in_between_the_last_word_counts_and_there_are_never_too_many(staff: Staff) -> None:
    wishes = random.Random(20)
    await staff.pool.start(1)
    for _ in range(40):
        staff.pool.want(wishes.randint(0, 3))
        assert len(staff.pool.children) <= 3
        await asyncio.sleep(wishes.choice((0, 0, 0.01, 0.05)))
    staff.pool.want(2)
    await staff.until(lambda: len(staff.pool.children) == 2 and not staff.pool._retired)
    await staff.until(lambda: all(child.status.worker for child in staff.pool.children))
    assert staff.deaths == []


async def test_one_whose_lock_cannot_be_made_is_tried_again(staff: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = [OSError(errno.ENOSPC, "no space left"), OSError(errno.EROFS, "read-only file system")]

    async def full_disk(path: Path, timeout_s: float) -> int:
        if refused:
            raise refused.pop()
        return await wait_for_lock(path, timeout_s)

    monkeypatch.setattr("appliance.supervisor.child.wait_for_lock", full_disk)
    staff.pool.want(1)
    await staff.until(lambda: bool(staff.ready))
    assert len(staff.deaths) == 2
    assert "no space left" in staff.deaths[1].reason


async def test_one_that_prepares_for_long_is_waited_for(staff: Staff) -> None:
    staff.start_timeout_s, staff.prepare_s = 0.2, 30.0
    staff.script = f"import time; time.sleep(1.0)\n{SCRIPT}"
    await staff.pool.start(1)
    assert (staff.ready, staff.deaths) == (["cut-1"], [])


async def test_one_that_ends_instead_of_preparing_is_not_waited_for(staff: Staff) -> None:
    staff.start_timeout_s, staff.prepare_s = 1.0, 3600.0
    staff.script = "raise SystemExit(1)"
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(ProcessFailed, match=r"it ended with status 1, .*read .*cut-1\.log"):
            await staff.pool.start(1)
