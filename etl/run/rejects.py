"""Records that a run leaves out: how many it may, and where the found ones stand.

What is wrong with a record is said in SQL. Here the lines of those that a rule of
``sql/clean`` found are looked up: their blocks are read again from the file.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from psycopg import AsyncConnection, sql

from etl.errors import TooManyRejects, all_together
from etl.run.sending import as_arrays
from etl.run.streams import LoadedFile, Stream
from etl.settings import RejectLimit

#: Errors that are shown where there are too many.
SHOWN_ERRORS = 3

#: How the place of a record ends that was rejected because another one was.
CONSEQUENCE = ":consequence"


async def count_reasons(
    connection: AsyncConnection, run_id: int, files: Collection[LoadedFile]
) -> None:
    """Count the rejected records of files by reason, where more came since the last."""
    behind = {file.file: file for file in files if file.counted != file.rejected}
    if not behind:
        return
    for file in behind.values():
        file.rejected_by_reason, file.consequences = {}, 0
        file.counted = file.rejected
    rows = await connection.execute(
        "select file, reason, is_consequence, records from etl.count_rejects(%s)",
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

    The message begins with the causes: where only too many records of the file follow
    from rejected ones, whatever their file, it begins with these.
    """
    file = stream.file
    if limit.allows(file.rejected, stream.most_records):
        return
    await count_reasons(connection, run_id, [file])
    own = file.rejected - file.consequences
    causes_first = limit.allows(own, stream.most_records)
    rows = await connection.execute(
        "select file, line, column_name, message from etl.first_errors(%s, %s, %s, %s)",
        [run_id, file.file, causes_first, SHOWN_ERRORS],
    )
    errors = [
        (f"{name}, " if causes_first else "")
        + (f"line {line}, column {column}" if column else f"line {line}")
        + f": {message}"
        for name, line, column, message in await rows.fetchall()
    ]
    so_far = "" if stream.is_loaded else "the first "
    records = f"{file.rejected} of {so_far}{file.records} records"
    shown, limited = "; ".join(errors), f"more than MAX_REJECTS={limit} allows"
    raise TooManyRejects(
        f"{shown}; therefore {records} of {file.file} are rejected, {limited}"
        if causes_first
        else f"{file.file}: {records} are rejected, {limited}: {shown}"
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
    files = {name: stream.file for name, stream in by_file.items()}
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
        await count_reasons(lead, run_id, list(files.values()))
        reasons = await lead.execute(
            "select file, reason, is_consequence, records"
            " from etl.count_sought_by_reason()"
        )
        for name, *counted in await reasons.fetchall():
            files[name].add_reason(*counted)
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
        if too_many:  # not all are on record, and those that are were counted
            stream.file.counted = stream.file.rejected
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
    """Where an entry stands in the list of a run's rejects: causes come first."""

    is_consequence: bool
    file: str
    line: int
    id: int

    @classmethod
    def parse(cls, text: str) -> Place:
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
START = Place(is_consequence=False, file="", line=0, id=0)


def rejects_of(
    run_id: int, after: Place, limit: int | None, reason: str | None = None
) -> sql.Composed:
    """The query for a run's rejects, one row per error: the causes by file and line,
    then what follows from them; only those with a reason, where one is given.
    """
    return sql.SQL(
        'select file, line, column_name as "column", value, reason, message, record'
        " from etl.rejects where {} order by is_consequence, file, line, id limit {}"
    ).format(_chosen(run_id, after, reason), limit)


async def last_of_page(
    connection: AsyncConnection,
    run_id: int,
    after: Place,
    limit: int,
    reason: str | None = None,
) -> Place | None:
    """The last entry of a page of ``limit`` entries, or None where no more follow."""
    rows = await connection.execute(
        sql.SQL(
            "select is_consequence, file, line, id from etl.rejects where {}"
            " order by is_consequence, file, line, id limit 2 offset {}"
        ).format(_chosen(run_id, after, reason), limit - 1)
    )
    found = await rows.fetchall()
    return Place(*found[0]) if len(found) == 2 else None


def _chosen(run_id: int, after: Place, reason: str | None) -> sql.Composed:
    """The condition for the rejects of a run that come after a place."""
    return sql.SQL(
        "run_id = {} and (is_consequence, file, line, id) > ({}, {}, {}, {})"
        " and ({reason}::text is null or reason = {reason})"
    ).format(
        *(run_id, after.is_consequence, after.file, after.line, after.id),
        reason=reason,
    )
