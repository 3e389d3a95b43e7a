"""Draws charts: runs the queries of ``sql/charts`` for (label, value).

What one gave is kept until something else is published, or its file changes, so that
many who look at it cost the database one query. Knows nothing of what it is about.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from decimal import Decimal
from http import HTTPStatus
from math import isfinite
from pathlib import Path
from typing import Any, cast

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import TupleRow

from etl.postgres.database import Database
from etl.postgres.sqlerrors import describe, is_lost
from etl.postgres.transactions import SNAPSHOT, local, transaction
from etl.reading.reader import DataLoader, PublishedVersion, read_published
from etl.sqlfiles import SqlFile, SqlFileError, read_folder

#: What a chart may cost, and the most points that somebody could tell apart.
TIMEOUT_SECONDS = 10
MOST_POINTS = 1000

#: What every chart is.
FORM = "a chart is one query for label, value"

#: A line of a file's header that has a name, as ``-- title:  Rows by month``.
_NAMED_LINE = re.compile(r"-- (\w+): +(\S.*)")


Point = dict[str, Any]


class ChartFault(Exception):
    """A chart that cannot be drawn; the message names its file and says why."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Chart:
    """A file of ``sql/charts``; its header says the title and what is to be seen."""

    name: str
    title: str
    description: str
    file: SqlFile


@dataclass(frozen=True)
class Drawn:
    """A chart as JSON, and what was published when it was asked for."""

    sha256: str
    state: PublishedVersion
    body: bytes


def read_charts(sql_dir: Path) -> list[Chart]:
    """The charts that there are now. Raises ChartFault for a file with a bad name."""
    try:
        return [_chart(file) for file in read_folder(sql_dir / "charts")]
    except SqlFileError as error:
        raise ChartFault(str(error)) from None


def _chart(file: SqlFile) -> Chart:
    """The words before the first line with a name are the description."""
    name = file.name.removesuffix(".sql")
    title, words, told = name, [], False
    for line in file.text.splitlines():
        if not line.startswith("-- "):
            break
        if named := _NAMED_LINE.fullmatch(line):
            told = True
            title = named[2] if named[1] == "title" else title
        elif not told:
            words.append(line.removeprefix("-- "))
    return Chart(name, title, " ".join(words), file)


class Charts:
    """Draws charts, and keeps each one's last."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[str, Drawn] = {}
        self._drawing = DataLoader(self._draw)

    async def drawn(self, chart: Chart) -> Drawn:
        """The chart of what is published now. Raises ChartFault."""
        return await self._drawing.load(chart, None)

    async def _draw(self, chart: Chart, questions: Sequence[None]) -> list[Drawn]:
        async with (
            self._database.readers.connection() as connection,
            transaction(connection, SNAPSHOT),
        ):
            state = await read_published(connection)
            kept = self._kept.get(chart.name)
            if kept is None or not _holds(kept, chart, state):
                points = await _points(connection, chart)
                members = {"name": chart.name, "title": chart.title, "points": points}
                body = json.dumps(members).encode()
                kept = Drawn(chart.file.sha256, state, body)
                self._kept[chart.name] = kept
        # A run of the same input publishes anew what is the same.
        return [replace(kept, state=state)] * len(questions)


def _holds(kept: Drawn, chart: Chart, state: PublishedVersion) -> bool:
    same_file = kept.sha256 == chart.file.sha256
    return same_file and kept.state.version == state.version


async def _points(connection: AsyncConnection, chart: Chart) -> list[Point]:
    """What the query gives, in its order."""
    path = chart.file.path
    await connection.execute(local({"statement_timeout": f"{TIMEOUT_SECONDS}s"}))
    try:
        async with connection.cursor() as cursor:
            return await _read_points(cursor, chart.file)
    except psycopg.errors.QueryCanceled as error:
        words = f"{path}: it took longer than {TIMEOUT_SECONDS} s, and was ended"
        raise ChartFault(words, HTTPStatus.GATEWAY_TIMEOUT) from error
    except psycopg.Error as error:
        if is_lost(error):
            raise  # which is no fault of the file
        if error.sqlstate is None:  # psycopg's own words are of its inner life
            raise ChartFault(f"{path}: {FORM}") from error
        raise ChartFault(describe(chart.file, error)) from error


async def _read_points(cursor: AsyncCursor, file: SqlFile) -> list[Point]:
    """Row by row, so that one which asks for a whole table costs no memory here."""
    points: list[Point] = []
    stream = cast(AsyncGenerator[TupleRow], cursor.stream(file.text.encode()))
    async with aclosing(stream) as rows:
        async for row in rows:
            names = [column.name for column in cursor.description or ()]
            if names != ["label", "value"]:
                raise ChartFault(f"{file.path}: {FORM}, not {', '.join(names)}")
            if len(points) == MOST_POINTS:
                raise ChartFault(f"{file.path}: it has more than {MOST_POINTS} points")
            label, value = row
            words = None if label is None else str(label)
            points.append({"label": words, "value": _number(value, file.path)})
    return points


def _number(value: object, path: str) -> int | float | None:
    """A value as JSON has numbers; None for what cannot be drawn."""
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float | Decimal):
        return float(value) if isfinite(value) else None
    raise ChartFault(f"{path}: a value is a number, not {str(value)[:50]!r}")
