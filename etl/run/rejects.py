"""Records that a run leaves out: how many it may, and where the found ones stand.

What is wrong with a record is said in SQL. Here the lines of those that a rule of
``sql/clean`` found are looked up: their blocks are read again from the file.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import AsyncConnection, sql

from etl.errors import TooManyRejects, all_together
from etl.run.sending import as_arrays
from etl.run.streams import Stream
from etl.settings import RejectLimit

#: Errors that are shown where there are too many.
SHOWN_ERRORS = 3


async def require_few(
    connection: AsyncConnection,
    run_id: int,
    stream: Stream,
    limit: RejectLimit,
) -> None:
    """Raise TooManyRejects where a file has too many, or must have in the end."""
    file = stream.file
    if limit.allows(file.rejected, stream.most_records):
        return
    rows = await connection.execute(
        "select line, column_name, message from etl.rejects"
        " where run_id = %s and file = %s order by line, id limit %s",
        [run_id, file.file, SHOWN_ERRORS],
    )
    shown = "; ".join(
        f"line {line}, column {column}: {message}"
        if column
        else f"line {line}: {message}"
        for line, column, message in await rows.fetchall()
    )
    so_far = "" if stream.is_loaded else "the first "
    raise TooManyRejects(
        f"{file.file}: {file.rejected} of {so_far}{file.records} records are rejected, "
        f"more than MAX_REJECTS={limit} allows: {shown}"
    )


async def reject_found(
    lead: AsyncConnection,
    workers: Sequence[AsyncConnection],
    run_id: int,
    streams: Sequence[Stream],
    limit: RejectLimit,
) -> int:
    """Reject what a rule found in staging; returns the number of records.

    Raises TooManyRejects where that is more than ``limit`` allows: then only the first
    ones are on record.
    """
    found = await lead.execute("select etl.seek_found()")
    if await found.fetchone() == (0,):
        return 0
    by_file = {stream.file.file: stream for stream in streams}
    rows = await lead.execute(
        "select distinct file, block from etl.sought where line is null"
    )
    blocks = [(by_file[file], xid) for file, xid in await rows.fetchall()]
    blocks.sort(key=lambda block: block[0].blocks[block[1]].line)
    counts = await lead.execute("select file, records from etl.count_sought(false)")
    to_reject = [(by_file[file], records) for file, records in await counts.fetchall()]
    too_many = [
        stream
        for stream, records in to_reject
        if not limit.allows(stream.file.rejected + records, stream.file.records)
    ]
    if too_many:
        await _locate_first(lead, run_id, too_many[0], blocks)
    else:
        waiting = iter(blocks)

        async def work(worker: AsyncConnection) -> None:
            for stream, xid in waiting:
                await _locate(worker, run_id, stream, xid)

        await all_together(work(worker) for worker in workers)
    gone = await lead.execute(
        "select file, records from etl.reject_sought(%s)", [run_id]
    )
    rejected = [(by_file[file], records) for file, records in await gone.fetchall()]
    for stream, records in to_reject if too_many else rejected:
        stream.file.rejected += records
    for stream in streams:
        await require_few(lead, run_id, stream, limit)
    return sum(records for _, records in rejected)


async def _locate_first(
    lead: AsyncConnection, run_id: int, stream: Stream, blocks: list[tuple[Stream, int]]
) -> None:
    """Find the lines of the first records to reject of a file; forget what else is."""
    for xid in [xid for other, xid in blocks if other is stream]:
        await _locate(lead, run_id, stream, xid)
        row = await lead.execute(
            "select from etl.count_sought(true) where file = %s and records >= %s",
            [stream.file.file, SHOWN_ERRORS],
        )
        if await row.fetchone() is not None:
            break
    await lead.execute("delete from etl.sought where line is null")


async def _locate(
    worker: AsyncConnection, run_id: int, stream: Stream, xid: int
) -> None:
    """Find the lines of what is sought in one block, some of its records at a time.

    Records that show a value at fault come first: mostly, no others are needed.
    """
    values = await worker.execute(
        "select column_name, array_agg(distinct value) from etl.sought"
        " where block = %s and line is null and column_name <> '' and value <> ''"
        " group by column_name",
        [xid],
    )
    shown: dict[str, list[str]] = dict(await values.fetchall())
    for showing in (shown, None) if shown else (None,):
        parts = stream.records_of(stream.blocks[xid], showing)
        while part := await asyncio.to_thread(next, parts, None):
            row = await worker.execute(
                "select etl.locate(%s, %s, %s, %s, %s, %s, %s)",
                [
                    *(run_id, stream.source.name, xid),
                    *(list(stream.header.fields), stream.header.delimiter),
                    *as_arrays(part),
                ],
            )
            if await row.fetchone() == (0,):
                return


@dataclass(frozen=True)
class Place:
    """Where an entry stands in the list of a run's rejects."""

    file: str
    line: int
    id: int

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read what ``str`` wrote; raises ValueError for anything else."""
        found = re.fullmatch(r"([^\0]*):([0-9]{1,18}):([0-9]{1,18})", text)
        if found is None:
            raise ValueError(text)
        return cls(found[1], int(found[2]), int(found[3]))

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.id}"


#: Before the first entry.
START = Place("", 0, 0)


def rejects_of(run_id: int, after: Place, limit: int | None) -> sql.Composed:
    """The query for a run's rejects, one row per error, ordered by file and line."""
    return sql.SQL(
        'select file, line, column_name as "column", value, reason, message, record'
        " from etl.rejects where run_id = {} and (file, line, id) > ({}, {}, {})"
        " order by file, line, id limit {}"
    ).format(run_id, after.file, after.line, after.id, limit)


async def last_of_page(
    connection: AsyncConnection, run_id: int, after: Place, limit: int
) -> Place | None:
    """The last entry of a page of ``limit`` entries, or None where no more follow."""
    rows = await connection.execute(
        "select file, line, id from etl.rejects"
        " where run_id = %s and (file, line, id) > (%s, %s, %s)"
        " order by file, line, id limit 2 offset %s",
        [run_id, after.file, after.line, after.id, limit - 1],
    )
    found = await rows.fetchall()
    return Place(*found[0]) if len(found) == 2 else None
