"""Clips: their files, one by one or all of a job as one archive."""

from __future__ import annotations

import asyncio
import os

from litestar import HttpMethod, get, route
from litestar.openapi.datastructures import ResponseSpec
from litestar.response import Stream
from litestar.types import ASGIApp, ControllerRouterHandler

from appliance.errors import JobNotFound, SourceUnavailable
from appliance.services.history import ClipRecord, clips_of, job_record
from stages.folder import JobFolder
from web.archive import Member, archive
from web.auth.routes import AnyRequest
from web.jobs.views import ClipFile, ClipNumber, JobId
from web.media import FileAnswer, disposition, open_below
from web.problems import Problem
from web.services import Given, Services

KINDS: dict[str, tuple[str, str]] = {
    "video": (".mp4", "video/mp4"),
    "thumbnail": (".jpg", "image/jpeg"),
    "captions.srt": (".srt", "application/x-subrip; charset=utf-8"),
    "captions.vtt": (".vtt", "text/vtt; charset=utf-8"),
}
"""What may be asked for: the file's ending and its type."""
MAX_TITLE_CHARS = 60
_ANSWERS = {
    200: ResponseSpec(data_container=bytes, description="The file.", media_type="application/octet-stream"),
    206: ResponseSpec(data_container=bytes, description="A part of it.", media_type="application/octet-stream"),
    304: ResponseSpec(data_container=None, description="The client's copy is this file."),
}


@route(
    "/api/clips/{job:str}/{clip:int}/{kind:str}",
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    opt={"role": "viewer"},
    tags=["clips"],
    summary="A clip's video, thumbnail or captions",
    responses=_ANSWERS,
)
async def clip_file(request: AnyRequest, services: Given, job: JobId, clip: ClipNumber, kind: ClipFile) -> ASGIApp:
    """`kind`: video, thumbnail, captions.srt or captions.vtt. Takes Range and conditions; `?download=1` saves it."""
    return await _answer(request, services, job, clip, kind)


async def _answer(request: AnyRequest, services: Services, job: str, clip: int, kind: str) -> FileAnswer:
    if kind not in KINDS:
        raise Problem(404, "not-found", f"a clip has {', '.join(KINDS)}")
    suffix, media_type = KINDS[kind]
    name = JobFolder.of(services.config.data_dir, job).output_file(clip, suffix).name
    file = await asyncio.to_thread(open_below, services.config.data_dir, ("output", job, name))
    if file is None:
        raise Problem(404, "clip-not-found", f"clip {clip} of job {job} has no {kind}: is it ready?")
    download_as = None
    if request.query_params.get("download") == "1":
        try:
            download_as = await _saved_name(services, job, clip, suffix)
        except BaseException:
            os.close(file.fd)
            raise
    return FileAnswer(file, media_type, request.headers, download_as=download_as)


async def _saved_name(services: Services, job: str, clip: int, suffix: str) -> str:
    try:
        clips = await services.readers.run(lambda db: clips_of(db, job))
    except SourceUnavailable:
        clips = []
    known = {one.clip: one for one in clips}
    return saved_name(known[clip], suffix) if clip in known else f"clip-{clip:02d}{suffix}"


def saved_name(clip: ClipRecord, suffix: str) -> str:
    """`clip-01 What she said.mp4`: what a clip's file is called where it is downloaded to."""
    title = "".join(c for c in clip.title if c.isprintable() and c not in '/\\:*?"<>|')[:MAX_TITLE_CHARS].strip(" .")
    return f"clip-{clip.clip:02d} {title}".rstrip() + suffix


@get(
    "/api/jobs/{job:str}/clips.zip",
    opt={"role": "viewer"},
    tags=["clips"],
    summary="All clips of a job in one archive",
    responses={200: ResponseSpec(data_container=bytes, description="The archive.", media_type="application/zip")},
)
async def clips_zip(services: Given, job: JobId) -> Stream:
    """The ready clips with their thumbnails and captions, stored as they are and sent while they are read."""
    record, clips = await services.readers.run(lambda db: (job_record(db, job), clips_of(db, job)))
    if record is None:
        raise JobNotFound(f"no job {job}")
    folder = JobFolder.of(services.config.data_dir, job)
    members = [
        Member(saved_name(clip, suffix), ("output", job, folder.output_file(clip.clip, suffix).name))
        for clip in clips
        if clip.state == "ready"
        for suffix, _ in KINDS.values()
    ]
    if not members or record["state"] == "deleted":
        raise Problem(404, "clip-not-found", f"job {job} has no clips that are ready")
    stem = os.path.splitext(record["name"])[0] or "clips"  # noqa: PTH122 - a name, not a path
    return Stream(
        archive(services.config.data_dir, members),
        media_type="application/zip",
        headers={"Content-Disposition": disposition(f"{stem} clips.zip"), "Cache-Control": "private, no-store"},
    )


HANDLERS: list[ControllerRouterHandler] = [clip_file, clips_zip]
