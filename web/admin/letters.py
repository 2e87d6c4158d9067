"""`/api/admin/dead-letters`: work that was given up, by what went wrong, and another try for it."""

from __future__ import annotations

import re
import time
from typing import Annotated, Literal

from litestar import get, post
from litestar.params import JSONBody
from litestar.types import ControllerRouterHandler
from msgspec import Meta, Struct

from appliance import intake
from appliance.errors import IntakeRefused, JobNotFound
from appliance.services.history import failed_items
from bus.deadletters import StoredLetter, list_dead_letters
from bus.errors import Retryable, Stale
from web.auth.routes import AnyRequest, remote_of
from web.services import Given, Services

MAX_LETTERS = 20_000
"""Of the newest ones that are looked through."""
SHOWN_PER_GROUP = 200
MAX_JOBS_AT_ONCE = 200
MAX_REPLAY_S = 5.0
"""Each job costs a commit; whoever waits for the answer does not wait longer than this on a slow disk."""
_PAGE = 1000
_VARYING = re.compile(r"(/[^\s:'\"]+)|\b[0-9a-z]{26}\b|\b[0-9a-f]{16,}\b|\d+(\.\d+)?")


class Letter(Struct, frozen=True, kw_only=True):
    """One job or clip that was given up and still is."""

    id: int
    job: str
    clip: int | None
    name: str
    """Of the job's video."""
    attempts: int
    error: str
    time: str


class Group(Struct, frozen=True, kw_only=True):
    """What went wrong in the same way: stage, code, and a text that differs in names and numbers only."""

    error: str
    """Of the newest one."""
    code: str
    stage: str
    count: int
    letters: list[Letter]
    """Newest first, at most SHOWN_PER_GROUP."""


class Letters(Struct, frozen=True, kw_only=True):
    groups: list[Group]
    """The largest first."""
    count: int


class Replay(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    ids: Annotated[
        list[Annotated[int, Meta(ge=1)]] | Literal["all"],
        Meta(description="Which, or all of them.", examples=[[12, 13]]),
    ]


class Refusal(Struct, frozen=True, kw_only=True):
    job: str
    reason: str


class Replayed(Struct, frozen=True, kw_only=True):
    """What became of a replay."""

    jobs: list[str]
    """These go on."""
    refused: list[Refusal]
    left: int
    """Jobs for which this was too much at once, or the event bus went away before their turn: ask again."""


@get("/api/admin/dead-letters", opt={"role": "operator"}, tags=["dead letters"], summary="What was given up, by cause")
async def letters(services: Given) -> Letters:
    """Only what is still given up: what was tried again since, or deleted, is left out."""
    found = await _open(services)
    groups: dict[tuple[str, str, str], list[Letter]] = {}
    for stored, name in found:
        letter = stored.letter
        key = (letter.stage, letter.code, _VARYING.sub("…", letter.error))
        groups.setdefault(key, []).append(
            Letter(
                id=stored.seq,
                job=letter.job,
                clip=letter.clip,
                name=name,
                attempts=letter.attempts,
                error=letter.error,
                time=stored.time,
            )
        )
    told = [
        Group(error=kept[0].error, code=code, stage=stage, count=len(kept), letters=kept[:SHOWN_PER_GROUP])
        for (stage, code, _), kept in groups.items()
    ]
    return Letters(groups=sorted(told, key=lambda group: -group.count), count=len(found))


@post(
    "/api/admin/dead-letters/replay",
    opt={"role": "operator"},
    status_code=200,
    tags=["dead letters"],
    summary="Try again what was given up",
)
async def replay(data: JSONBody[Replay], request: AnyRequest, services: Given) -> Replayed:
    """Each job goes on where it stopped; of a job whose clips failed, all of these.

    When the event bus goes away in between, the answer says what was done before; 503 when nothing was.
    """
    assert request.user is not None
    wanted = None if data.ids == "all" else set(data.ids)
    jobs = list(
        dict.fromkeys(
            stored.letter.job for stored, _ in await _open(services) if wanted is None or stored.seq in wanted
        )
    )
    done: list[str] = []
    refused: list[Refusal] = []
    away: Retryable | None = None
    database = services.config.data_dir / "appliance.db"
    ends_at = time.monotonic() + MAX_REPLAY_S
    for job in jobs[:MAX_JOBS_AT_ONCE]:
        if time.monotonic() > ends_at:
            break
        try:
            await intake.retry_job(services.bus, database, job, by=request.user.user)
        except (IntakeRefused, JobNotFound, Stale) as error:
            refused.append(Refusal(job=job, reason=str(error)))
        except Retryable as error:
            away = error
            refused.append(Refusal(job=job, reason=f"whether it goes on is not known: {error}"))
            break
        else:
            done.append(job)
    left = len(jobs) - len(done) - len(refused)
    if done or away is not None:
        target = "all" if wanted is None and not left and away is None else ",".join(done)[:1000]
        if away is not None:
            target = f"{target} perhaps:{refused[-1].job}".strip()
        await services.audit(request.user.user, "dead-letters.replay", target, remote_of(request))
    if away is not None and not done:
        raise away
    return Replayed(jobs=done, refused=refused, left=left)


async def _open(services: Services) -> list[tuple[StoredLetter, str]]:
    """Letters whose item is still given up, with the job's name, newest first; of each item the newest letter."""
    failed = await services.readers.run(failed_items)
    if not failed:
        return []
    newest: dict[tuple[str, int | None], StoredLetter] = {}
    after = max(0, (await services.bus.stream_state("DLQ")).last_seq - MAX_LETTERS)
    while page := await list_dead_letters(services.bus, after_seq=after, limit=_PAGE):
        for stored in page:
            item = (stored.letter.job, stored.letter.clip)
            if item in failed:
                newest[item] = stored
        after = page[-1].seq
    ordered = sorted(newest.items(), key=lambda pair: -pair[1].seq)
    return [(stored, failed[item]) for item, stored in ordered]


HANDLERS: list[ControllerRouterHandler] = [letters, replay]
