"""Ending the box's own tasks: one that failed long ago hinders nothing, and is not passed over in silence."""

from __future__ import annotations

import asyncio

import pytest

from appliance.supervisor.box import _end


async def test_a_task_that_had_failed_is_told_and_hinders_no_end(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise ValueError("a slip")

    task = asyncio.create_task(fails())
    await asyncio.wait([task])
    await _end(task)
    assert "a slip" in caplog.text


async def test_a_task_that_runs_is_ended() -> None:
    task = asyncio.create_task(asyncio.sleep(3600))
    await _end(task)
    assert task.cancelled()
    await _end(None)
