"""Representations (RFC 9110): which coding an answer has, and which entity tag.

An answer of many rows is compressed where it is made, since each coding has a tag of
its own; one without a tag when it is finished (see ``bodies.py``); a row by its key,
which has one, never. A client that has the present representation gets 304, of rows
without one being read: their tag is made of the published version, a digest of the
files of data and SQL that went into ``features``, and of the request.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache

from aiohttp import ETag, web
from aiohttp.web import ContentCoding

from etl.http.headers import add_vary
from etl.http.negotiation import choose_coding
from etl.reading.exports import CONTENT_TYPES
from etl.reading.reader import PublishedVersion

#: Bytes of a body that fit into a packet as they are.
MIN_COMPRESSED = 1024


def encode_as_accepted(request: web.Request, response: web.StreamResponse) -> None:
    """Compress the body in the coding that the request prefers, if any."""
    add_vary(response, "Accept-Encoding")
    encode(request, response, coding_of(request))


def coding_of(request: web.Request) -> ContentCoding | None:
    """The coding that the request prefers, None for no coding."""
    return choose_coding(request.headers.get("Accept-Encoding", ""))


def encode(
    request: web.Request, response: web.StreamResponse, coding: ContentCoding | None
) -> None:
    """Compress the body in this coding, if any, also one that is sent as it is made."""
    if coding is None:
        return
    if request.method == "HEAD" and not isinstance(response, web.Response):
        # aiohttp would send the end of a compressed stream as the body.
        response.headers["Content-Encoding"] = coding.value
    else:
        response.enable_compression(coding)


@lru_cache(1)
def _http_date(seconds: int) -> str:
    """A time in seconds since 1970; most answers are of the same publish."""
    return formatdate(seconds, usegmt=True)


def entity_tag(value: str, coding: ContentCoding | None = None) -> ETag:
    """A strong entity tag; each coding has its own."""
    return ETag(f"{value}-{coding.value}" if coding else value)


def is_current(request: web.Request, tag: ETag) -> bool:
    """Whether the client has what this tag is of, or whatever there is (``*``)."""
    return any(each.value in (tag.value, "*") for each in request.if_none_match or ())


@dataclass(frozen=True)
class Representation:
    """One form of the answer to a request, which ``digest`` identifies."""

    request: web.Request
    digest: str
    vary: str
    coding: ContentCoding | None = None

    def describe(
        self, response: web.StreamResponse, published: PublishedVersion
    ) -> None:
        """Set the headers of every answer, also of a 304, and the coding of a body."""
        response.etag = self._etag(published)
        # A client may store an answer, and must ask each time whether it is current.
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Vary"] = self.vary
        if published.run_id is not None:
            response.headers["X-Run-Id"] = str(published.run_id)
        if published.modified is not None:
            response.headers["Last-Modified"] = _http_date(published.modified)
        if response.status != 304:
            encode(self.request, response, self.coding)

    def not_modified(self, published: PublishedVersion) -> web.Response | None:
        """A 304 if the client has this representation, else None."""
        if not self.request.if_none_match or not is_current(
            self.request, self._etag(published)
        ):
            return None
        response = web.Response(status=304)
        self.describe(response, published)
        return response

    def answer(self, published: PublishedVersion, body: bytes) -> web.Response:
        """This JSON, or 304 for a client that has it."""
        if not_modified := self.not_modified(published):
            return not_modified
        headers = {"Content-Type": CONTENT_TYPES["json"]}
        response = web.Response(body=body, headers=headers)
        self.describe(response, published)
        return response

    def _etag(self, published: PublishedVersion) -> ETag:
        return entity_tag(f"{published.version}-{self.digest}", self.coding)
