"""`/api/uploads`: the tus 1.0 protocol (https://tus.io/protocols/resumable-upload), core and the extensions creation,
creation-with-upload, checksum, expiration and termination.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

from litestar import Request, Response, delete, head, patch, post, route
from litestar.enums import HttpMethod
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from appliance.accounts.roles import Principal
from web.auth.routes import remote_of
from web.problems import Problem
from web.services import Given, Services
from web.uploads.receive import Body, Checksum, Cut, parse_checksum, receive_into
from web.uploads.service import Uploads
from web.uploads.table import Upload
from web.uploads.wanted import parse_metadata, wanted

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,checksum,expiration,termination"
OFFSET_TYPE = "application/offset+octet-stream"
TOLD_S = 2.0
"""How long the last answer waits for the bus, so that who reads it finds the job."""
MAX_DIGITS = 18
_TUS = {"Tus-Resumable": VERSION}
AnyRequest = Request[Principal, str | None, Any]
_OPERATOR = {"role": "operator"}


@route("/api/uploads", http_method=[HttpMethod.OPTIONS], opt={"role": "public"}, status_code=204, tags=["uploads"])
async def options(services: Given) -> Response[None]:
    """What this server can do."""
    headers = {
        **_TUS,
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(services.config.uploads.max_bytes),
        "Tus-Checksum-Algorithm": "sha256,sha1",
    }
    return Response(None, status_code=204, headers=headers)


@post(
    "/api/uploads",
    opt=_OPERATOR,
    status_code=201,
    tags=["uploads"],
    summary="Begin an upload",
    request_max_body_size=None,
)
async def create(request: AnyRequest, services: Given) -> Response[None]:
    """Looks for room and quota, then makes an empty upload; with a body of type application/offset+octet-stream its
    first bytes come along."""
    uploads = services.uploads
    with_body = request.headers.get("content-type", "").partition(";")[0].strip() == OFFSET_TYPE
    async with _body(request, uploads) as body:
        _check_version(request)
        if "upload-defer-length" in request.headers:
            raise Problem(400, "length-needed", "Upload-Length is needed: the box looks for room before the first byte")
        size = _number(request, "Upload-Length")
        if size == 0:
            raise Problem(400, "empty", "the file is empty (0 bytes)")
        wants = wanted(parse_metadata(request.headers.get("upload-metadata", "")))
        checksum = parse_checksum(request.headers.get("upload-checksum"))
        upload = await uploads.create(size, wants, request.user)
        await services.audit(request.user.user, "upload.create", upload.id, remote_of(request))
        headers = {"Location": f"/api/uploads/{upload.id}"}
        if with_body:
            try:
                upload = await _append(request, uploads, upload, body, checksum, 0)
            except Problem as problem:
                # It exists: the client may go on with it.
                problem.headers = {**headers, **problem.headers}
                raise
    await _told(services.courier, upload)
    return Response(None, status_code=201, headers={**headers, **_state(uploads, upload)})


@head("/api/uploads/{ident:str}", opt=_OPERATOR, tags=["uploads"], summary="How much came so far?")
async def offset(request: AnyRequest, services: Given, ident: FromPath[str]) -> Response[None]:
    """Answers with `Upload-Offset`: so many bytes are on the disk. A dead connection's upload is taken over."""
    return await _head(request, services, ident)


@patch(
    "/api/uploads/{ident:str}",
    opt=_OPERATOR,
    status_code=204,
    tags=["uploads"],
    summary="Send the next bytes",
    request_max_body_size=None,
)
async def append(request: AnyRequest, services: Given, ident: FromPath[str]) -> Response[None]:
    """Appends the body at `Upload-Offset`, which must be the upload's own. What is acknowledged is on the disk."""
    return await _patch(request, services, ident)


@delete("/api/uploads/{ident:str}", opt=_OPERATOR, status_code=204, tags=["uploads"], summary="Remove an upload")
async def terminate(request: AnyRequest, services: Given, ident: FromPath[str]) -> Response[None]:
    """Forgets what came; a job that was made of it stays."""
    return await _delete(request, services, ident)


@post(
    "/api/uploads/{ident:str}",
    opt=_OPERATOR,
    status_code=204,
    tags=["uploads"],
    summary="What a client cannot ask for by its own method",
    request_max_body_size=None,
)
async def overridden(request: AnyRequest, services: Given, ident: FromPath[str]) -> Response[None]:
    """For clients that can only POST: `X-HTTP-Method-Override` names the method."""
    named = request.headers.get("x-http-method-override", "").upper()
    if named == "PATCH":
        return await _patch(request, services, ident)
    if named == "DELETE":
        return await _delete(request, services, ident)
    if named == "HEAD":
        return await _head(request, services, ident)
    raise Problem(405, "method-not-allowed", "send PATCH, HEAD or DELETE", headers={"Allow": "PATCH, HEAD, DELETE"})


async def _head(request: AnyRequest, services: Services, ident: str) -> Response[None]:
    _check_version(request)
    uploads = services.uploads
    upload = await uploads.find(ident, request.user)
    silent = upload.id in uploads.leases and not uploads.leases.is_live(upload.id)
    whole = upload.state == "receiving" and upload.offset_bytes == upload.size_bytes
    if silent or (whole and upload.id not in uploads.leases):
        upload = await uploads.take_up(upload)
    if upload.state == "refused":
        raise Problem(410, "refused", upload.error or "this upload was refused")
    return Response(
        None,
        status_code=200,
        headers={**_state(uploads, upload), "Upload-Length": str(upload.size_bytes), "Cache-Control": "no-store"},
    )


async def _patch(request: AnyRequest, services: Services, ident: str) -> Response[None]:
    uploads = services.uploads
    async with _body(request, uploads) as body:
        _check_version(request)
        if request.headers.get("content-type", "").partition(";")[0].strip() != OFFSET_TYPE:
            raise Problem(415, "media-type", f"the body must be of type {OFFSET_TYPE}")
        checksum = parse_checksum(request.headers.get("upload-checksum"))
        at = _number(request, "Upload-Offset")
        upload = await uploads.find(ident, request.user)
        upload = await _append(request, uploads, upload, body, checksum, at)
    await _told(services.courier, upload)
    return Response(None, status_code=204, headers=_state(uploads, upload))


@asynccontextmanager
async def _body(request: AnyRequest, uploads: Uploads) -> AsyncIterator[Body]:
    """The request's body; a problem inside the block is answered when the rest of it is read, or with an end."""
    body = Body(request.receive, uploads.settings.stall_timeout_s)
    try:
        yield body
    except Cut:
        raise Problem(400, "cut", "the request ended before its body did", headers={"Connection": "close"}) from None
    except Problem as problem:
        problem.headers = {**_TUS, **problem.headers}
        if not await body.rest_is_read():
            problem.headers["Connection"] = "close"
        raise


async def _delete(request: AnyRequest, services: Services, ident: str) -> Response[None]:
    _check_version(request, needed=False)
    upload = await services.uploads.find(ident, request.user)
    await services.uploads.terminate(upload)
    await services.audit(request.user.user, "upload.remove", upload.id, remote_of(request))
    return Response(None, status_code=204, headers=_TUS)


async def _append(
    request: AnyRequest, uploads: Uploads, upload: Upload, body: Body, checksum: Checksum | None, at: int | None
) -> Upload:
    """The upload after the request's bytes; finished when they were its last ones."""
    async with uploads.held(upload) as (fresh, part, lease):
        if fresh.state == "refused":
            raise Problem(410, "refused", fresh.error or "this upload was refused")
        if at is not None and at != fresh.offset_bytes:
            raise Problem(
                409,
                "offset-mismatch",
                f"the upload is at {fresh.offset_bytes}, not at {at}",
                headers={"Upload-Offset": str(fresh.offset_bytes)},
                offset_bytes=fresh.offset_bytes,
            )
        if fresh.state == "complete":
            return fresh
        announced = request.headers.get("content-length")
        if announced is not None and announced.isdigit() and int(announced) > fresh.size_bytes - fresh.offset_bytes:
            raise Problem(
                413,
                "too-long",
                f"{announced} bytes at {fresh.offset_bytes} are more than the announced {fresh.size_bytes}",
                limit_bytes=fresh.size_bytes,
            )
        await receive_into(uploads, fresh, part, body.pieces(lease), checksum=checksum)
        if part.confirmed_bytes == fresh.size_bytes:
            try:
                return await uploads.finish(fresh, part)
            except OSError as error:
                raise await uploads.disk_trouble(error, fresh, part) from error
        return await uploads.find(fresh.id, request.user)


async def _told(courier: Any, upload: Upload) -> None:
    if upload.state == "complete" and not upload.told:
        await courier.told(upload.id, TOLD_S)


def _state(uploads: Uploads, upload: Upload) -> dict[str, str]:
    headers = {
        **_TUS,
        "Upload-Offset": str(upload.size_bytes if upload.state == "complete" else upload.offset_bytes),
        "Upload-Expires": formatdate(uploads.expires_at(upload), usegmt=True),
    }
    if upload.job is not None:
        headers["Appliance-Job"] = upload.job
    return headers


def _check_version(request: AnyRequest, *, needed: bool = True) -> None:
    version = request.headers.get("tus-resumable")
    if version != VERSION and (needed or version is not None):
        raise Problem(
            412,
            "tus-version",
            f"Tus-Resumable must be {VERSION}; to send a file in one request use POST /api/uploads/file",
            headers={"Tus-Version": VERSION},
        )


def _number(request: AnyRequest, name: str) -> int:
    text = request.headers.get(name, "")
    if not text.isascii() or not text.isdigit() or len(text) > MAX_DIGITS:
        raise Problem(400, "bad-header", f"{name} must be a whole number of bytes")
    return int(text)


HANDLERS: list[ControllerRouterHandler] = [options, create, offset, append, terminate, overridden]
