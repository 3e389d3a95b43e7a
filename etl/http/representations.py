"""Representations of rows (RFC 9110): their entity tags, codings and other headers.

A client that has the present one gets 304, without a row being read. The entity tag is
made of the published version, a digest of the files of data and SQL that went into
``features``, and of the request.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import ETag, web
from aiohttp.web import ContentCoding

from etl.http.compression import encode
from etl.reading.reader import PublishedVersion


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
            response.last_modified = published.modified
        if response.status != 304:
            encode(self.request, response, self.coding)

    def not_modified(self, published: PublishedVersion) -> web.Response | None:
        """A 304 if the client has this representation, else None."""
        current = (self._etag(published).value, "*")
        if not any(tag.value in current for tag in self.request.if_none_match or ()):
            return None
        response = web.Response(status=304)
        self.describe(response, published)
        return response

    def _etag(self, published: PublishedVersion) -> ETag:
        """A strong entity tag; each coding has its own."""
        coding = f"-{self.coding.value}" if self.coding else ""
        return ETag(f"{published.version}-{self.digest}{coding}")
