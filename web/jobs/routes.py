"""`/api/jobs`: make, list, look at, cancel, retry, pin and delete jobs."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

from litestar import Response, delete, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, QueryParameter
from litestar.types import ControllerRouterHandler
from msgspec import Struct
from msgspec.structs import replace

from appliance import intake
from appliance.accounts.roles import Principal
from appliance.errors import IntakeRefused, NoRoom
from appliance.services.history import Fact, facts, job_page
from appliance.services.readers import position
from appliance.storage.admission import Room, size_of
from appliance.store.schema import JOB_STATES
from appliance.uploads import content_path, upload_source
from bus.events import JobOptions, JobSource
from web.auth.routes import AnyRequest, remote_of
from web.jobs.asking import NewJob, options_of
from web.jobs.views import Job, JobAndClips, JobId, find, just_made, view
from web.media import open_below
from web.problems import Problem
from web.services import Given, Services
from web.uploads import table

LOG_BYTES = 256 * 1024
MAX_LOG_BYTES = 8 * 1024 * 1024
_VIEWER, _OPERATOR = {"role": "viewer"}, {"role": "operator"}


class JobList(Struct, frozen=True, kw_only=True):
    """Newest first."""

    jobs: list[Job]
    next: str | None
    """`cursor` of the next page; null: this is the last."""
    epoch: str
    """With `seq` the stream position that the list includes: where a live feed goes on."""
    seq: int


class Timeline(Struct, frozen=True, kw_only=True):
    """What happened to a job, oldest first."""

    events: list[Fact]
    next: int | None
    """`after` of the next page; null: this is the last."""


class Going(Struct, frozen=True, kw_only=True):
    """One part of a job that goes on."""

    stage: str
    clip: int | None


class Retried(Struct, frozen=True, kw_only=True):
    job: Job
    items: list[Going]


@post("/api/jobs", opt=_OPERATOR, tags=["jobs"], summary="Make a job of a URL or a finished upload")
async def create(data: JSONBody[NewJob], request: AnyRequest, services: Given) -> Job:
    """Stored for good when this answers. Refused with the reason when the intake is closed or the disk has no room."""
    assert request.user is not None
    if (data.url is None) == (data.upload is None):
        raise IntakeRefused("give either url or upload")
    options = options_of(data)
    if data.url is not None:
        if "://" not in data.url:
            raise IntakeRefused("url is not one: it begins with http:// or https://")
        job = await _make(services, intake.source_of(data.url), options, request.user)
    else:
        assert data.upload is not None
        job = await _make_of_upload(services, data.upload, options, request.user)
    await _audit(services, request, "job.create", job)
    return await just_made(services.bus, job)


@get("/api/jobs", opt=_VIEWER, tags=["jobs"], summary="List jobs, newest first")
async def list_jobs(
    services: Given,
    states: Annotated[
        str | None,
        QueryParameter(
            name="state",
            description="Only jobs in these states, separated by commas. Without: all but the deleted.",
            max_length=100,
        ),
    ] = None,
    limit: Annotated[int, QueryParameter(description="Most jobs to answer with.", ge=1, le=200)] = 50,
    cursor: Annotated[
        str | None, QueryParameter(description="`next` of the page before.", pattern=r"^[0-9a-z]{26}$", max_length=26)
    ] = None,
) -> JobList:
    """A page at a time; `next` is the cursor of the following one."""
    wanted = [name for name in (states or "").split(",") if name]
    if unknown := set(wanted) - set(JOB_STATES):
        raise Problem(400, "unknown-state", f"no state {min(unknown)[:40]!r}: there are {', '.join(JOB_STATES)}")
    where, records = await services.readers.run(
        lambda db: (position(db), job_page(db, states=wanted, before=cursor, limit=limit + 1))
    )
    more = len(records) > limit
    jobs = [view(record, services.hub) for record in records[:limit]]
    return JobList(jobs=jobs, next=jobs[-1].job if more else None, epoch=where.epoch, seq=where.seq)


@get("/api/jobs/{job:str}", opt=_VIEWER, tags=["jobs"], summary="One job with its clips")
async def show(services: Given, job: JobId) -> JobAndClips:
    """Also of a job that was made a moment ago."""
    return await find(services.readers, services.bus, services.hub, job)


@delete("/api/jobs/{job:str}", opt=_OPERATOR, status_code=204, tags=["jobs"], summary="Remove a job's files")
async def remove(request: AnyRequest, services: Given, job: JobId) -> None:
    """Its clips go, its history stays. A job that runs is cancelled first."""
    assert request.user is not None
    await intake.delete_job(services.bus, job, by=request.user.user)
    await _audit(services, request, "job.delete", job)


@post("/api/jobs/{job:str}/cancel", opt=_OPERATOR, status_code=200, tags=["jobs"], summary="Stop a job")
async def cancel(request: AnyRequest, services: Given, job: JobId) -> Job:
    """What it has made so far is kept for a retry. A job that has ended is answered as it is."""
    assert request.user is not None
    done = await intake.cancel_job(services.bus, job, by=request.user.user)
    if done:
        await _audit(services, request, "job.cancel", job)
    found = (await find(services.readers, services.bus, services.hub, job)).job
    if not done:
        return found
    return replace(found, state="cancelled", stage=None, progress=None)


@post(
    "/api/jobs/{job:str}/retry",
    opt=_OPERATOR,
    status_code=200,
    tags=["jobs"],
    summary="Let a failed or cancelled job go on",
)
async def retry(request: AnyRequest, services: Given, job: JobId) -> Retried:
    """From where it stopped; of a completed job the clips that failed."""
    assert request.user is not None
    database = services.config.data_dir / "appliance.db"
    items = await intake.retry_job(services.bus, database, job, by=request.user.user)
    await _audit(services, request, "job.retry", job)
    found = (await find(services.readers, services.bus, services.hub, job)).job
    going = [Going(stage=item.stage, clip=item.clip) for item in items]
    state = "clipping" if items[0].clip is not None else "running"
    again = replace(found, state=state, stage=items[0].stage, ended_at=None, error=None, error_code=None)
    return Retried(job=again, items=going)


@post("/api/jobs/{job:str}/pin", opt=_OPERATOR, status_code=200, tags=["jobs"], summary="Keep a job's files")
async def pin(request: AnyRequest, services: Given, job: JobId) -> Job:
    """Retention leaves them alone from now on."""
    return await _pin(request, services, job, pinned=True)


@post("/api/jobs/{job:str}/unpin", opt=_OPERATOR, status_code=200, tags=["jobs"], summary="Keep them no longer")
async def unpin(request: AnyRequest, services: Given, job: JobId) -> Job:
    """Retention may remove them when it needs the space."""
    return await _pin(request, services, job, pinned=False)


async def _pin(request: AnyRequest, services: Services, job: str, *, pinned: bool) -> Job:
    assert request.user is not None
    found = (await find(services.readers, services.bus, services.hub, job)).job
    if found.state == "deleted":
        raise IntakeRefused(f"job {job} was deleted: it has no files")
    await intake.pin_job(services.bus, job, by=request.user.user, pinned=pinned)
    await _audit(services, request, "job.pin" if pinned else "job.unpin", job)
    return replace(found, pinned=pinned)


@get("/api/jobs/{job:str}/events", opt=_VIEWER, tags=["jobs"], summary="What happened to a job")
async def timeline(
    services: Given,
    job: JobId,
    after: Annotated[int, QueryParameter(description="Only events after this one.", ge=0, le=2**53)] = 0,
    limit: Annotated[int, QueryParameter(description="Most events to answer with.", ge=1, le=500)] = 500,
) -> Timeline:
    """From the audit trail: the job's facts and its clips', in order."""
    found = await services.readers.run(lambda db: facts(db, after=after, job=job, limit=limit + 1))
    if not found and after == 0:
        await find(services.readers, services.bus, services.hub, job)
    page = found[:limit]
    return Timeline(events=page, next=page[-1].seq if len(found) > limit else None)


@get(
    "/api/jobs/{job:str}/log",
    opt=_VIEWER,
    tags=["jobs"],
    summary="A job's log",
    media_type="text/plain",
    responses={200: ResponseSpec(data_container=str, description="Its last lines.", media_type="text/plain")},
)
async def log(
    services: Given,
    job: JobId,
    max_bytes: Annotated[
        int, QueryParameter(description="Of the log's end, at most.", ge=1, le=MAX_LOG_BYTES)
    ] = LOG_BYTES,
) -> Response[bytes]:
    """Whole lines from the end."""
    text = await asyncio.to_thread(_log_end, services, job, max_bytes)
    if text is None:
        await find(services.readers, services.bus, services.hub, job)  # no such job, or none of its log
        text = b""
    return Response(text, media_type="text/plain")


def _log_end(services: Services, job: str, max_bytes: int) -> bytes | None:
    file = open_below(services.config.data_dir, ("jobs", job, "job.log"))
    if file is None:
        return None
    try:
        start = max(0, file.size - max_bytes)
        text = os.pread(file.fd, max_bytes, start)
    finally:
        os.close(file.fd)
    if start:
        text = text.partition(b"\n")[2]
    return text.decode(errors="replace").encode()


async def _make(services: Services, source: JobSource, options: JobOptions, who: Principal) -> str:
    """Raises what `create_job` does, and `Problem` 507 with the numbers when the disk has no room for the job."""
    try:
        return await intake.create_job(
            services.bus, source, options, owner=who.user, ledger=services.ledger, admission=services.admission
        )
    except NoRoom as error:
        room = await asyncio.to_thread(_look, services, source, options)
        raise Problem(
            507,
            "no-room",
            str(error),
            need_bytes=room.forecast.total_bytes,
            free_bytes=room.free_bytes,
            promised_bytes=room.promised_bytes,
            reserve_bytes=room.reserve_bytes,
        ) from error


def _look(services: Services, source: JobSource, options: JobOptions) -> Room:
    size_bytes = size_of(source, services.config.data_dir)
    return services.admission.look(size_bytes, options, stored=source.kind == "upload")


async def _make_of_upload(services: Services, ident: str, options: JobOptions, who: Principal) -> str:
    """A further job of an upload that has one is made, too: somebody wants other clips of it."""
    uploads = services.uploads
    upload = await uploads.find(ident, who)
    if upload.state != "complete" or upload.sha256 is None:
        raise Problem(409, "upload-unfinished", f"this upload is {upload.state}: only a complete one becomes a job")
    content = content_path(services.config.data_dir, upload.sha256)
    async with uploads.storing:  # meanwhile nobody removes a content that no job needs
        if not await uploads.run(content.is_file):
            raise Problem(410, "upload-gone", "the video was removed to make room: send it again")
        job = await _make(services, upload_source(upload.id, upload.name, upload.sha256), options, who)
        if upload.job is None:
            await services.db.change(lambda db: table.give_job(db, upload.id, job))
    return job


async def _audit(services: Services, request: AnyRequest, action: str, target: str) -> None:
    assert request.user is not None
    await services.audit(request.user.user, action, target, remote_of(request))


HANDLERS: list[ControllerRouterHandler] = [create, list_jobs, show, remove, cancel, retry, pin, unpin, timeline, log]
