"""Handlers of ``/charts`` and what is below it; who has an answer is only told so."""

from __future__ import annotations

import json
from hashlib import sha256

from aiohttp import web

from etl.api.answers import READER, Representation
from etl.api.app_keys import SETTINGS
from etl.api.drawing import Chart, ChartFault, Charts, read_charts
from etl.http.negotiation import choose_coding
from etl.http.parameters import refuse_parameters
from etl.http.problems import NotThere, problem
from etl.reading.exports import CONTENT_TYPES
from etl.reading.reader import PublishedVersion

CHARTS = web.AppKey("charts", Charts)

#: Characters of a hash that tell charts apart in a tag.
DIGEST_LENGTH = 16


async def charts(request: web.Request) -> web.Response:
    """The charts that there are."""
    refuse_parameters(request)
    try:
        found = read_charts(request.app[SETTINGS].sql_dir)
    except ChartFault as fault:
        return problem(fault.status, str(fault))
    hashes = " ".join(f"{each.name} {each.file.sha256}" for each in found)
    asked = _asked(request, sha256(hashes.encode()).hexdigest())
    if known := await _known(request, asked):
        return known
    members = ("name", "title", "description")
    listed = [{member: getattr(each, member) for member in members} for each in found]
    state = await request.app[READER].published()
    return _answer(request, asked, state, json.dumps(listed).encode())


async def chart(request: web.Request) -> web.Response:
    """One chart."""
    refuse_parameters(request)
    try:
        named = _named(request)
        asked = _asked(request, named.file.sha256)
        if known := await _known(request, asked):
            return known
        drawn = await request.app[CHARTS].drawn(named)
    except ChartFault as fault:
        return problem(fault.status, str(fault))
    return _answer(request, asked, drawn.state, drawn.body)


def _named(request: web.Request) -> Chart:
    """The chart that the path names, or 404."""
    name = request.match_info["name"]
    for each in read_charts(request.app[SETTINGS].sql_dir):
        if each.name == name:
            return each
    raise NotThere(f"there is no chart {name!r}")


def _asked(request: web.Request, digest: str) -> Representation:
    coding = choose_coding(request.headers.get("Accept-Encoding", ""))
    return Representation(digest[:DIGEST_LENGTH], "Accept-Encoding", coding)


async def _known(request: web.Request, asked: Representation) -> web.Response | None:
    """A 304 if the client has this answer, else None."""
    if not request.if_none_match:
        return None
    return asked.not_modified(request, await request.app[READER].published())


def _answer(
    request: web.Request,
    asked: Representation,
    published: PublishedVersion,
    body: bytes,
) -> web.Response:
    response = web.Response(body=body, headers={"Content-Type": CONTENT_TYPES["json"]})
    asked.describe(response, published)
    asked.compress(request, response)
    return response
