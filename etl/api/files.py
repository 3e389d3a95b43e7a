"""``/files``: the CSV files that the pipeline expects, what is there, and new ones.

What belongs to the disk is in etl/csvfiles/folder.py.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from aiohttp import ETag, web

from etl.api.access import FILE_ROUTE, why_refused
from etl.api.app_keys import SETTINGS
from etl.api.expected import (
    FILES,
    ExpectedFile,
    Files,
    expected_file,
    expected_files,
)
from etl.csvfiles.folder import Condition, PartialFile, StoredFile
from etl.csvfiles.headers import find_header
from etl.csvfiles.textfile import TextFile
from etl.errors import DataFault, RequestError, truncated
from etl.http.bodies import PART_BYTES, content_coding, media_type, receive, send
from etl.http.headers import attachment
from etl.http.parameters import refuse_parameters
from etl.http.representations import entity_tag, is_current

log = logging.getLogger(__name__)

#: What the system says when the disk, a quota or the largest size of a file is reached;
#: when the folder may not be written to, or a file in it is mounted by itself; when the
#: name is taken by a folder; and when the folder itself is gone, as a volume may be.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EBUSY)
NO_FILE = (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST)
NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

OFF = "UPLOADS=off: files are put into the folder by other means"
READ_ONLY = (
    "the service may not write to its folder of files: mount it writable, and let the"
    " service's user write"
)


async def files(request: web.Request) -> web.Response:
    """All files that the pipeline expects; headers say whether this client may change
    them.
    """
    refuse_parameters(request)
    its, settings = request.app[FILES], request.app[SETTINGS]
    body = [
        expected.describe(await its.do(its.folder.find, expected.name))
        for expected in await expected_files(request)
    ]
    headers = {"Cache-Control": "no-store", "X-Max-Upload": str(settings.max_upload)}
    refusal = why_refused(settings, request, FILE_ROUTE, "PUT")
    if not refusal and not settings.uploads:
        refusal = RequestError(OFF, 403)
    if not refusal and not await its.do(its.folder.is_writable):
        refusal = RequestError(READ_ONLY, 403)
    if refusal:
        headers["X-Uploads-Refused"] = f"{refusal.status} {refusal}"
    return web.json_response(body, headers=headers)


async def file(request: web.Request) -> web.StreamResponse:
    """The bytes of one."""
    refuse_parameters(request)
    its, expected = request.app[FILES], await expected_file(request)
    try:
        opened = TextFile(its.folder.path / expected.name)
    except DataFault as error:
        raise RequestError(str(error), 404) from None
    try:
        stored = await its.do(its.folder.describe, opened)
        if stored.sha256 is None:
            raise RequestError(f"{expected.name}: is being written to: try again", 409)
        headers = {"ETag": f'"{stored.sha256}"', "Cache-Control": "no-cache"}
        if is_current(request, entity_tag(stored.sha256)):
            return web.Response(status=304, headers=headers)
        response = web.StreamResponse(headers=headers | attachment(expected.name))
        response.headers["Content-Type"] = "text/csv; charset=utf-8"
        response.content_length = stored.bytes
        try:
            async with aclosing(_parts(its, opened)) as parts:
                await send(request, response, parts)
        except DataFault as fault:
            log.warning("GET %s: cut off: %s", request.path, fault)
        return response
    finally:
        opened.close()


async def put_file(request: web.Request) -> web.Response:
    """Take a file in place of the one that is there, once all of it is."""
    its = request.app[FILES]
    with its.uploads.room(request):
        expected = await _changeable_file(request)
        _require_plain(request)
        try:
            stored, is_new = await _store(request, expected)
        except OSError as error:
            raise _refusal(expected, error) from error
        except DataFault as fault:
            raise RequestError(str(fault), 422) from None
    return web.json_response(
        expected.describe(stored),
        status=201 if is_new else 200,
        headers={"ETag": f'"{stored.sha256}"', "Cache-Control": "no-store"},
    )


async def _store(
    request: web.Request, expected: ExpectedFile
) -> tuple[StoredFile, bool]:
    """Receive the file beside the old one, then let it take its name."""
    its, limit = request.app[FILES], request.app[SETTINGS].max_upload
    length = request.content_length or 0
    if length > limit:
        raise _too_long(expected, limit)
    if not request.body_exists:  # an error regardless of conditions (RFC 9110, 13.2.1)
        find_header(expected.name, b"", expected.known)
    if condition := _condition(request, expected):
        condition(await its.do(its.folder.find, expected.name))
    partial_file = PartialFile(its.folder.path, expected.name)
    try:
        await its.do(partial_file.open, length)
        async with aclosing(receive(request)) as parts:
            async for part in parts:
                if partial_file.bytes + len(part) > limit:
                    raise _too_long(expected, limit)
                await its.do(partial_file.write, part, expected.known)
        await its.do(partial_file.finish, expected.known)
        return await its.do(its.folder.replace, partial_file, condition)
    finally:
        await its.do(partial_file.discard)


async def delete_file(request: web.Request) -> web.Response:
    """Remove a file."""
    its, expected = request.app[FILES], await _changeable_file(request)
    condition = _condition(request, expected)
    try:
        await its.do(its.folder.remove, expected.name, condition)
    except FileNotFoundError:
        raise RequestError(f"{expected.name}: is not there", 404) from None
    except OSError as error:
        raise _refusal(expected, error) from error
    return web.Response(status=204)


async def _changeable_file(request: web.Request) -> ExpectedFile:
    """The same where files may be changed; 403 where not."""
    refuse_parameters(request)
    if not request.app[SETTINGS].uploads:
        raise RequestError(OFF, 403)
    return await expected_file(request)


async def _parts(its: Files, opened: TextFile) -> AsyncGenerator[bytes]:
    """The bytes of an open file; DataFault where it is changed meanwhile."""
    while part := await its.do(opened.read_at, opened.bytes, PART_BYTES):
        opened.skip_to(opened.bytes + len(part))
        yield part


def _require_plain(request: web.Request) -> None:
    """400 or 415 where the body is not the file itself."""
    if "Content-Range" in request.headers:
        raise RequestError("a part of a file cannot be sent: send the whole file", 400)
    if request.headers.get("Transfer-Encoding", "chunked").lower() != "chunked":
        raise RequestError("Transfer-Encoding is chunked, or missing", 400)
    if (coding := content_coding(request)) is not None:
        raise RequestError(
            f"Content-Encoding: {truncated(coding)}: send it unpacked", 415
        )
    if media_type(request).startswith("multipart/"):
        raise RequestError(
            "a form is sent: send the file itself, as curl --upload-file does", 415
        )


def _condition(request: web.Request, expected: ExpectedFile) -> Condition | None:
    """What If-Match and If-None-Match ask for (RFC 9110, section 13), else 412; what is
    no entity tag asks for nothing that could be.
    """
    for name in ("If-Match", "If-None-Match"):
        if len(request.headers.getall(name, [])) > 1:
            raise RequestError(f"{name} is sent more than once: send one list", 400)
    wanted, unwanted = request.if_match, request.if_none_match
    has_wanted = "If-Match" in request.headers
    has_unwanted = "If-None-Match" in request.headers
    if not has_wanted and not has_unwanted:
        return None

    def require(stored: StoredFile | None) -> None:
        is_met = not has_wanted or _names(wanted, stored)
        if not is_met or (has_unwanted and not unwanted) or _names(unwanted, stored):
            what = f'"{stored.sha256}"' if stored else "missing"
            raise RequestError(
                f"{expected.name}: is {what}, not what was required", 412
            )

    return require


def _names(tags: Sequence[ETag] | None, stored: StoredFile | None) -> bool:
    """Whether one of the entity tags is that of the file; ``*`` is of any."""
    if stored is None:
        return False
    values = [tag.value for tag in tags or () if not tag.is_weak]
    return "*" in values or stored.sha256 in values


def _too_long(expected: ExpectedFile, limit: int) -> RequestError:
    return RequestError(
        f"{expected.name}: is longer than MAX_UPLOAD allows: {limit} bytes", 413
    )


def _refusal(expected: ExpectedFile, error: OSError) -> Exception:
    """What an error of the disk is to the client; itself if it is not to be known."""
    name, reason = expected.name, error.strerror
    if error.errno in FULL:
        return RequestError(f"{name}: no room for it: {reason}: make room", 507)
    if error.errno in FORBIDDEN:
        return RequestError(f"{READ_ONLY} ({name}: {reason})", 403)
    if error.errno in NO_FILE:
        return RequestError(f"{name}: is a folder: remove it", 409)
    if error.errno in NO_FOLDER:
        return RequestError(f"{name}: the folder of files is gone: {reason}", 503)
    return error
