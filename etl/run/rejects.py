"""The records that a run rejects: how many it may, and how ``etl.rejects`` is read."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from psycopg import AsyncConnection, sql

from etl.errors import TooManyRejects
from etl.run.streams import LoadedFile, Stream
from etl.settings import RejectLimit

#: Errors that a message names where there are too many.
MAX_ERRORS_NAMED = 3

#: The end of a cursor after a record that was rejected because another one was.
CONSEQUENCE = ":consequence"


async def count_reasons(
    connection: AsyncConnection, run_id: int, files: Collection[LoadedFile]
) -> None:
    """Count the rejected records of files by reason, if more came since last time.

    A record with two reasons counts for each.
    """
    behind = {file.file: file for file in files if file.counted != file.rejected}
    if not behind:
        return
    for file in behind.values():
        file.rejected_by_reason, file.consequences = {}, 0
        file.counted = file.rejected
    rows = await connection.execute(
        "select file, reason, is_consequence, count(distinct line) from etl.rejects"
        " where run_id = %s group by file, is_consequence, reason"
        " order by file, is_consequence, reason",
        [run_id],
    )
    for name, *counted in await rows.fetchall():
        if name in behind:
            behind[name].add_reason(*counted)


async def require_few(
    connection: AsyncConnection,
    run_id: int,
    stream: Stream,
    limit: RejectLimit,
) -> None:
    """Raise TooManyRejects where a file has too many, or must have in the end.

    If the file has too many only because of consequences, the message begins with the
    rejected records that they follow from, of whatever file.
    """
    file = stream.file
    if limit.allows(file.rejected, stream.max_records()):
        return
    await count_reasons(connection, run_id, [file])
    own = file.rejected - file.consequences
    causes_first = limit.allows(own, stream.max_records())
    rows = await connection.execute(
        "select file, line, column_name, message from etl.first_errors(%s, %s, %s, %s)",
        [run_id, file.file, causes_first, MAX_ERRORS_NAMED],
    )
    errors = [
        (f"{name}, " if causes_first else "")
        + (f"line {line}, column {column}" if column else f"line {line}")
        + f": {message}"
        for name, line, column, message in await rows.fetchall()
    ]
    so_far = "" if stream.is_loaded else "the first "
    records = f"{file.rejected} of {so_far}{file.records} records"
    named, limited = "; ".join(errors), f"more than MAX_REJECTS={limit} allows"
    raise TooManyRejects(
        f"{named}; therefore {records} of {file.file} are rejected, {limited}"
        if causes_first
        else f"{file.file}: {records} are rejected, {limited}: {named}"
    )


@dataclass(frozen=True)
class RejectCursor:
    """The position of an entry in the list of a run's rejects: causes come first."""

    is_consequence: bool
    file: str
    line: int
    id: int

    @classmethod
    def parse(cls, text: str) -> RejectCursor:
        """Read what ``str`` wrote; raises ValueError for anything else."""
        found = re.fullmatch(
            rf"([^\0]*):([0-9]{{1,18}}):([0-9]{{1,18}})({CONSEQUENCE})?", text
        )
        if found is None:
            raise ValueError(text)
        return cls(found[4] is not None, found[1], int(found[2]), int(found[3]))

    def __str__(self) -> str:
        mark = CONSEQUENCE if self.is_consequence else ""
        return f"{self.file}:{self.line}:{self.id}{mark}"


#: Before the first entry.
START = RejectCursor(is_consequence=False, file="", line=0, id=0)


@dataclass(frozen=True)
class Rejects:
    """The rejects of a run, one row per error: the causes by file and line, then what
    follows from them. Only those of a ``file``, or with a ``reason``, where one is
    given.
    """

    run_id: int
    file: str | None = None
    reason: str | None = None

    def rows(self, after: RejectCursor, limit: int | None) -> sql.Composed:
        """The query for those after a cursor."""
        return sql.SQL(
            'select file, line, column_name as "column", value, reason, message, record'
            " from etl.rejects where {}"
            " order by is_consequence, file, line, id limit {}"
        ).format(self._chosen(after), limit)

    async def last_of_page(
        self, connection: AsyncConnection, after: RejectCursor, limit: int
    ) -> RejectCursor | None:
        """The last one of a page of ``limit``, or None where no more follow."""
        rows = await connection.execute(
            sql.SQL(
                "select is_consequence, file, line, id from etl.rejects where {}"
                " order by is_consequence, file, line, id limit 2 offset {}"
            ).format(self._chosen(after), limit - 1)
        )
        found = await rows.fetchall()
        return RejectCursor(*found[0]) if len(found) == 2 else None

    def _chosen(self, after: RejectCursor) -> sql.Composed:
        return sql.SQL(
            "run_id = {} and (is_consequence, file, line, id) > ({}, {}, {}, {})"
            " and ({file}::text is null or file = {file})"
            " and ({reason}::text is null or reason = {reason})"
        ).format(
            *(self.run_id, after.is_consequence, after.file, after.line, after.id),
            file=self.file,
            reason=self.reason,
        )


def records_of_file(run_id: int, file: str) -> sql.Composed:
    """The query for the rejected records of a file as texts, each once, by line."""
    return sql.SQL(
        "select record from (select distinct on (line) line, record from etl.rejects"
        " where run_id = {} and is_consequence in (false, true) and file = {}"
        " order by line) as records order by line"
    ).format(run_id, file)
