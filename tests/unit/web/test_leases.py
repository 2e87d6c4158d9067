"""Who may write to an upload: what happens between two turns of the event loop."""

from __future__ import annotations

import asyncio

from web.uploads.leases import Lease


async def test_a_holder_whose_wait_is_just_ending_can_be_asked_again() -> None:
    loop = asyncio.get_running_loop()
    lease = Lease(loop.time)
    trouble: list[Exception] = []

    def ask() -> None:
        try:
            lease.ask()
        except RuntimeError as error:
            trouble.append(error)

    ended = False
    try:
        async with asyncio.timeout(10) as scope:
            lease.waiting(scope)
            lease.ask()
            # One turn later the scope has expired, and its holder has not run yet.
            loop.call_soon(loop.call_soon, ask)
            loop.call_soon(ask)
            await asyncio.sleep(5)
    except TimeoutError:
        ended = True
    assert (ended, trouble) == (True, [])
