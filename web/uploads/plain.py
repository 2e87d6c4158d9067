"""Uploads for people and simple clients: list, look, forecast, one `POST` of a form (`curl -F file=@talk.mp4`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.params import FromPath, QueryParameter
from litestar.types import ControllerRouterHandler
from msgspec import Struct
from msgspec.structs import replace
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from appliance.accounts.roles import Principal
from web.auth.routes import remote_of
from web.problems import Problem
from web.services import Given
from web.uploads import table
from web.uploads.receive import Body, Cut, receive_into
from web.uploads.room import Forecast
from web.uploads.service import Uploads
from web.uploads.table import Upload
from web.uploads.tus import TOLD_S
from web.uploads.wanted import wanted

MAX_LISTED = 200
MAX_FIELDS = 16
MAX_FIELD_BYTES = 1024
MAX_HEADER_BYTES = 4096
AnyRequest = Request[Principal, str | None, Any]


class UploadItem(Struct, frozen=True, kw_only=True):
    """One upload."""

    id: str
    name: str
    size_bytes: int
    offset_bytes: int
    """Bytes on the disk for good."""
    state: str
    """`receiving`, `complete` or `refused`."""
    created_at: datetime
    expires_at: datetime
    """When it goes by itself."""
    job: str | None
    """The job that it became."""
    sha256: str | None
    error: str | None
    waiting: str | None
    """Why its job does not begin yet."""


class UploadList(Struct, frozen=True, kw_only=True):
    """Uploads, newest first."""

    uploads: list[UploadItem]


@get("/api/uploads", opt={"role": "operator"}, tags=["uploads"], summary="My uploads")
async def listed(request: AnyRequest, services: Given) -> UploadList:
    """The newest ones, at most 200; administrators see everybody's."""
    found = await services.uploads.listed(request.user, MAX_LISTED)
    return UploadList(uploads=[_item(services.uploads, upload) for upload in found])


@get("/api/uploads/{ident:str}", opt={"role": "operator"}, tags=["uploads"], summary="One upload")
async def one(request: AnyRequest, services: Given, ident: FromPath[str]) -> UploadItem:
    """Where it stands."""
    return _item(services.uploads, await services.uploads.find(ident, request.user))


@get("/api/storage/forecast", opt={"role": "operator"}, tags=["uploads"], summary="Would it fit?")
async def forecast(
    services: Given,
    size_bytes: Annotated[int, QueryParameter(ge=0, le=2**62, description="Size of the video in bytes.")],
) -> Forecast:
    """Whether a video of this size and its clips would fit on the disk now, and whether videos are taken."""
    return await services.uploads.room.forecast(size_bytes)


@post(
    "/api/uploads/file",
    opt={"role": "operator"},
    status_code=201,
    tags=["uploads"],
    summary="Upload in one request",
    request_max_body_size=None,
)
async def in_one(request: AnyRequest, services: Given) -> Response[UploadItem]:
    """A form with the file in the field `file`; further fields as in tus metadata. It cannot be resumed."""
    uploads = services.uploads
    length = request.headers.get("content-length", "")
    if not length.isascii() or not length.isdigit() or len(length) > 18:
        raise _early(Problem(411, "length-needed", "Content-Length is needed: the box looks for room first"))
    form = _Form(request, uploads, int(length))
    try:
        upload = await form.take()
    except Cut:
        raise _early(Problem(400, "cut", "the request ended before its body did")) from None
    except (Problem, MultipartError, UnicodeError) as error:
        said = f"this is not a form as browsers send it: {error}"
        problem = error if isinstance(error, Problem) else Problem(400, "bad-form", said)
        if await form.body.rest_is_read():
            raise problem from None
        raise _early(problem) from None
    if not upload.told and await services.courier.told(upload.id, TOLD_S):
        upload = replace(upload, told=True)
    await services.audit(request.user.user, "upload.create", upload.id, remote_of(request))
    return Response(_item(uploads, upload), status_code=201, headers={"Location": f"/api/uploads/{upload.id}"})


class _Form:
    """A multipart body on its way: small fields into memory, the file into an upload."""

    def __init__(self, request: AnyRequest, uploads: Uploads, size_bytes: int) -> None:
        media_type, options = parse_options_header(request.headers.get("content-type", ""))
        boundary = options.get("boundary", "")
        if media_type != "multipart/form-data" or not boundary:
            raise _early(
                Problem(415, "media-type", "the body must be multipart/form-data with the file in field `file`")
            )
        self._request = request
        self._uploads = uploads
        self._size_bytes = size_bytes
        self._parser = PushMultipartParser(
            boundary, content_length=size_bytes, max_header_size=MAX_HEADER_BYTES, max_segment_count=MAX_FIELDS
        )
        self._fields: dict[str, str] = dict(request.query_params.items())
        self.body = Body(request.receive, uploads.settings.stall_timeout_s)

    async def take(self) -> Upload:
        """Raises `Cut`, `Problem`, `MultipartError`."""
        events = self._events(self.body.pieces())
        try:
            async for event in events:
                if isinstance(event, MultipartSegment):
                    if event.filename is not None or event.name == "file":
                        return await self._file(event, events)
                    self._fields[event.name] = await _small(event.name, events)
        finally:
            self._parser.close(check_complete=False)
        raise Problem(400, "no-file", "the form holds no file: send it in the field `file`")

    async def _events(self, body: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for piece in body:
            for event in self._parser.parse(piece):
                yield event
        for event in self._parser.parse(b""):
            yield event

    async def _file(self, segment: MultipartSegment, events: AsyncIterator[Any]) -> Upload:
        fields = {"filename": segment.filename or "", **self._fields}
        uploads = self._uploads
        upload = await uploads.create(self._size_bytes, wanted(fields), self._request.user)
        try:
            async with uploads.held(upload) as (fresh, part, _lease):
                await receive_into(uploads, fresh, part, _content(events))
                size = part.confirmed_bytes
                if size == 0:
                    raise Problem(400, "empty", "the file is empty (0 bytes)")
                async for event in events:  # up to the form's proper end
                    if isinstance(event, MultipartSegment):
                        fields[event.name] = await _small(event.name, events)
                whole = replace(fresh, size_bytes=size, offset_bytes=size, wanted=wanted(fields))
                await uploads.db.change(lambda db: table.set_whole(db, whole))
                try:
                    return await uploads.finish(whole, part)
                except OSError as error:
                    raise await uploads.disk_trouble(error, fresh, part) from error
        except BaseException:
            # Nobody can go on with it: the client does not know it.
            await uploads.drop(upload)
            raise


async def _content(events: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    """The bytes of the segment at hand."""
    async for event in events:
        if event is None:
            return
        yield bytes(event)


async def _small(name: str, events: AsyncIterator[Any]) -> str:
    data = b""
    async for event in events:
        if event is None:
            return data.decode("utf-8", "replace")
        data += event
        if len(data) > MAX_FIELD_BYTES:
            raise Problem(413, "field-too-long", f"the field {name[:64]!r} is longer than {MAX_FIELD_BYTES} bytes")
    raise Cut


def _early(problem: Problem) -> Problem:
    problem.headers = {**problem.headers, "Connection": "close"}
    return problem


def _item(uploads: Uploads, upload: Upload) -> UploadItem:
    waiting = None
    if upload.state == "complete" and not upload.told:
        waiting = uploads.room.intake().reason or "the event bus does not answer"
    return UploadItem(
        id=upload.id,
        name=upload.name,
        size_bytes=upload.size_bytes,
        offset_bytes=upload.offset_bytes,
        state=upload.state,
        created_at=datetime.fromtimestamp(upload.created_at, UTC),
        expires_at=datetime.fromtimestamp(uploads.expires_at(upload), UTC),
        job=upload.job,
        sha256=upload.sha256,
        error=upload.error,
        waiting=waiting,
    )


HANDLERS: list[ControllerRouterHandler] = [listed, one, forecast, in_one]
