"""``/charts``: the files of ``sql/charts``, each a query for (label, value), as JSON.

A chart's data is kept until another version is published, or its file changes, so that
many clients cost the database one query. Knows no chart by name.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from itertools import takewhile
from math import isfinite
from pathlib import Path
from typing import cast

import psycopg
from aiohttp import web
from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import TupleRow

from etl.api.answers import READER
from etl.api.app_keys import SETTINGS
from etl.errors import RequestError
from etl.http.parameters import refuse_parameters
from etl.http.representations import Representation, coding_of
from etl.postgres.database import Database
from etl.postgres.sqlerrors import describe, is_lost
from etl.postgres.transactions import SNAPSHOT, local, transaction
from etl.reading.dataloader import DataLoader
from etl.reading.reader import PublishedVersion, read_published
from etl.sqlfiles import HEADER, SqlFile, SqlFileError, read_folder

#: What a chart may cost, and the most points that a reader can tell apart.
TIMEOUT_SECONDS = 10
MAX_POINTS = 1000

#: What a message says that a chart has to be.
RULE = "a chart is one query for label, value"

Point = dict[str, str | int | float | None]


class ChartError(RequestError):
    """A file of ``sql/charts`` gives no chart; the message names it and says why."""


@dataclass(frozen=True)
class Chart:
    """A file of ``sql/charts``; title and description are from its header."""

    name: str
    title: str
    description: str
    file: SqlFile


def read_charts(sql_dir: Path) -> list[Chart]:
    """The charts of a pipeline as it is now. Raises ChartError for a bad file name."""
    try:
        return [_chart(file) for file in read_folder(sql_dir / "charts")]
    except SqlFileError as error:
        raise ChartError(str(error)) from None


def _chart(file: SqlFile) -> Chart:
    """Its description are the comment lines before those as ``-- title:  Rows``."""
    described = takewhile(
        lambda line: line.startswith("-- ") and not HEADER.match(line),
        file.text.splitlines(),
    )
    description = " ".join(line.removeprefix("-- ") for line in described)
    name = file.name.removesuffix(".sql")
    return Chart(name, file.header.get("title") or name, description, file)


class Charts:
    """The data of each chart as JSON, as it was last read; one query at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loader = DataLoader(self._load)
        self._kept: dict[str, tuple[str, bytes]] = {}

    async def read(self, chart: Chart) -> tuple[PublishedVersion, bytes]:
        """The published version and the chart of it. Raises ChartError."""
        return await self._loader.load(chart, None)

    async def _load(
        self, chart: Chart, requests: Sequence[None]
    ) -> list[tuple[PublishedVersion, bytes]]:
        async with (
            self._database.readers.connection() as connection,
            transaction(connection, SNAPSHOT),
        ):
            published = await read_published(connection)
            key = f"{published.version} {chart.file.sha256}"
            kept_key, body = self._kept.get(chart.name, ("", b""))
            if kept_key != key:
                points = await _read_points(connection, chart.file)
                data = {"name": chart.name, "title": chart.title, "points": points}
                body = json.dumps(data).encode()
                self._kept[chart.name] = key, body
        return [(published, body)] * len(requests)


CHARTS = web.AppKey("charts", Charts)


async def charts(request: web.Request) -> web.Response:
    """The list of charts."""
    refuse_parameters(request)
    found = read_charts(request.app[SETTINGS].sql_dir)
    members = ("name", "title", "description")
    listed = [{member: getattr(each, member) for member in members} for each in found]
    body = json.dumps(listed).encode()
    published = await request.app[READER].published()
    return _answer(request, published, sha256(body).hexdigest(), body)


async def chart(request: web.Request) -> web.Response:
    """The data of one chart."""
    refuse_parameters(request)
    name = request.match_info["name"]
    for each in read_charts(request.app[SETTINGS].sql_dir):
        if each.name == name:
            published, body = await request.app[CHARTS].read(each)
            return _answer(request, published, each.file.sha256, body)
    raise RequestError(f"there is no chart {name!r}", 404)


def _answer(
    request: web.Request, published: PublishedVersion, digest: str, body: bytes
) -> web.Response:
    """The answer, or 304 for a client that has it."""
    coding = coding_of(request)
    form = Representation(request, digest[:16], "Accept-Encoding", coding)
    return form.answer(published, body)


async def _read_points(connection: AsyncConnection, file: SqlFile) -> list[Point]:
    """The rows of a chart's query, in its order."""
    await connection.execute(local({"statement_timeout": f"{TIMEOUT_SECONDS}s"}))
    try:
        async with connection.cursor() as cursor:
            return [point async for point in _points(cursor, file)]
    except psycopg.errors.QueryCanceled as error:
        message = f"{file.path}: it took longer than {TIMEOUT_SECONDS} s"
        raise ChartError(message, 504) from error
    except psycopg.Error as error:
        if is_lost(error) or isinstance(error, psycopg.errors.LockNotAvailable):
            raise  # the file is not at fault
        if error.sqlstate is None:  # a message of psycopg, about its own API
            raise ChartError(f"{file.path}: {RULE}") from error
        raise ChartError(describe(file, error)) from error


async def _points(cursor: AsyncCursor, file: SqlFile) -> AsyncIterator[Point]:
    """Row by row, so that a query for a whole table needs no memory here."""
    stream = cast(AsyncGenerator[TupleRow], cursor.stream(file.text.encode()))
    async with aclosing(stream) as rows:
        count = 0
        async for row in rows:
            names = [column.name for column in cursor.description or ()]
            if names != ["label", "value"]:
                raise ChartError(f"{file.path}: {RULE}, not {', '.join(names)}")
            if (count := count + 1) > MAX_POINTS:
                raise ChartError(f"{file.path}: it has more than {MAX_POINTS} points")
            label, value = row
            is_number = isinstance(value, int | float | Decimal | None)
            if not is_number or isinstance(value, bool):
                text = repr(str(value)[:50])
                raise ChartError(f"{file.path}: a value is a number, not {text}")
            if isinstance(value, float | Decimal):  # JSON has no NaN and no infinity
                value = float(value) if isfinite(value) else None
            yield {"label": None if label is None else str(label), "value": value}
