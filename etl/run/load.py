"""Blocks into COPY: the files of a run into their tables, on several connections.

What COPY may not take, or refuses, goes the raw path: there SQL takes it apart.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace

from psycopg import AsyncConnection, DataError, IntegrityError, sql

from etl.csvfiles.blocks import MAX_BLOCK_BYTES, Block, CsvRecord
from etl.errors import DataFault, all_together
from etl.postgres.sqlerrors import one_line
from etl.postgres.transactions import transaction
from etl.run.rejects import require_few
from etl.run.sending import as_arrays
from etl.run.streams import MAX_LINES, LoadedFile, Stream
from etl.settings import RejectLimit

#: Bytes of each file up to which a look at tables and their keys costs more than it
#: saves. Where one is larger, small files count too: a join with a table of unknown
#: content may come in its order, and the build has to sort what was in order before.
BYTES_WITHOUT_STATISTICS = 100_000

#: Tells which transaction it is, so that its rows and their lines are found again.
XID = sql.SQL("select pg_current_xact_id()::xid::text::bigint")

#: What stands in quotes; a doubled quote makes two of them, with nothing in between.
QUOTED = re.compile(rb'"[^"]*"')


@dataclass
class _Taken:
    """A block in its table: which transaction loads it, and the numbers of its records
    and of the good ones.
    """

    xid: int
    records: int = 0
    good: int = 0


class _TookFewer(Exception):
    """COPY ended as if all were well, before it had all records."""


async def load_files(
    workers: Sequence[AsyncConnection],
    run_id: int,
    streams: Sequence[Stream],
    limit: RejectLimit,
    begun: Callable[[LoadedFile], None],
) -> None:
    """Load all files, give the planner its statistics, and look at unique keys.

    Every worker takes the next block of whichever file is being read and loads it in
    one transaction, while the next ones are read: memory holds a block a worker and
    two. ``begun`` is called with each file as its reading begins. Raises DataFault,
    also as soon as a file must have more rejects than ``limit`` allows.
    """
    for worker in workers:
        _send_ahead(worker)
    largest = max((stream.opened.size for stream in streams), default=0)
    plans_matter = largest > BYTES_WITHOUT_STATISTICS
    blocks: asyncio.Queue[tuple[Stream, Block] | None] = asyncio.Queue(maxsize=1)
    idle: list[AsyncConnection] = []  # that have nothing left to load
    too_many = False

    async def read() -> None:
        async with aclosing(_blocks(streams, begun)) as all_blocks:
            async for item in all_blocks:
                await blocks.put(item)
                if too_many:
                    break
        await blocks.put(None)

    async def work(worker: AsyncConnection) -> None:
        nonlocal too_many
        while item := await blocks.get():
            if too_many:
                continue
            stream, block = item
            await _load(worker, run_id, stream, block)
            was_last = stream.is_loaded  # for one worker: none came in between
            file = stream.file
            if not limit.allows(file.rejected, file.records) and stream.lines is None:
                # It may end well yet. Counting lines is fast, and tells it early.
                stream.lines = await asyncio.to_thread(stream.opened.count_lines)
            too_many = too_many or not limit.allows(file.rejected, stream.most_records)
            if was_last and plans_matter:  # while others are loaded
                await _look_over(stream, worker, idle.pop() if idle else worker)
        idle.append(worker)
        await blocks.put(None)  # for the next worker

    await all_together([read(), *map(work, workers)])
    for stream in streams:
        await require_few(workers[0], run_id, stream, limit)
    if plans_matter:
        await _analyze(workers[0], sql.Identifier("etl", "odd_rows"))


def _send_ahead(worker: AsyncConnection) -> None:
    """Let the kernel hold a whole block for the server, as far as it may.

    Python is not there at once when the server wants more: a thread that cuts the next
    block keeps the interpreter for milliseconds. It saves an eighth of the load, half
    of that where net.core.wmem_max is Linux' own. TCP finds its size by itself.
    """
    with socket.socket(fileno=os.dup(worker.fileno())) as near_end:
        if near_end.family == socket.AF_UNIX:
            with suppress(OSError):  # of a system that allows less, and says so
                near_end.setsockopt(
                    socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_BLOCK_BYTES
                )


async def _look_over(
    stream: Stream, worker: AsyncConnection, other: AsyncConnection
) -> None:
    """Give the planner the statistics of a table, and look at its unique keys.

    At the same time where the ``other`` connection is another one; one connection does
    one after the other.
    """
    target = [stream.source.name, stream.table.as_string()]

    async def note_keys() -> None:
        await other.execute("select etl.note_keys(%s, %s)", target)

    await all_together([_analyze(worker, stream.table), note_keys()])
    await worker.execute("select etl.heed_statistics(%s, %s)", target)


async def _analyze(connection: AsyncConnection, table: sql.Identifier) -> None:
    """Give the planner its statistics of a table."""
    await connection.execute(sql.SQL("analyze {}").format(table))


async def _blocks(
    streams: Sequence[Stream], begun: Callable[[LoadedFile], None]
) -> AsyncGenerator[tuple[Stream, Block]]:
    """The blocks of all files, one file after the other."""
    for stream in streams:
        file, reader = stream.file, stream.reader
        begun(file)
        while not reader.is_finished:  # known or found out: a hop to a thread saved
            block = await asyncio.to_thread(reader.next_block, stream.patterns)
            file.bytes = stream.opened.bytes
            if block is None:
                break
            yield stream, block
        file.sha256 = stream.opened.sha256


async def _load(
    worker: AsyncConnection, run_id: int, stream: Stream, block: Block
) -> None:
    """Load one block in one transaction, and count its records.

    A block that COPY refuses, though its records are plain, goes the raw path as a
    whole: another few of them would be refused as well.
    """
    try:
        taken = await _try(worker, run_id, stream, block)
    except (DataError, IntegrityError, _TookFewer):
        try:
            taken = await _take_all_apart(worker, run_id, stream, block)
        except (DataError, IntegrityError) as error:
            words = f"{stream.file.file}, in or after line {block.line}"
            raise DataFault(f"{words}: {one_line(error)}") from error
    if taken.good:
        stream.blocks[taken.xid] = replace(block, regular=b"", irregular=())
    if block.lines - taken.records >= MAX_LINES:
        await asyncio.to_thread(stream.find_long_values, block)
    stream.file.records += taken.records
    stream.file.rejected += taken.records - taken.good
    stream.unloaded -= block.length


async def _try(
    worker: AsyncConnection, run_id: int, stream: Stream, block: Block
) -> _Taken:
    """Load one block, its odd records by the raw path."""
    async with _loading(worker) as taken:
        if block.regular:
            taken.good = taken.records = await _copy(worker, stream, block)
        if block.irregular:
            taken.good += await _take_apart(worker, run_id, stream, block.irregular)
            taken.records += len(block.irregular)
    return taken


async def _take_all_apart(
    worker: AsyncConnection, run_id: int, stream: Stream, block: Block
) -> _Taken:
    """Load one block by the raw path alone, a part of its records at a time."""
    async with _loading(worker) as taken:
        parts = stream.records_of(block)
        while part := await asyncio.to_thread(next, parts, None):
            taken.good += await _take_apart(worker, run_id, stream, part)
            taken.records += len(part)
    return taken


@asynccontextmanager
async def _loading(worker: AsyncConnection) -> AsyncIterator[_Taken]:
    """The one transaction of a block, and what it has taken: nothing yet."""
    async with transaction(worker, XID) as begun:
        (xid,) = await begun.fetchone() or (0,)
        yield _Taken(xid)


async def _copy(worker: AsyncConnection, stream: Stream, block: Block) -> int:
    """Send the plain records of a block; returns their number.

    Before PostgreSQL 18 a line of `\\.` ends COPY as if all were well.
    """
    quotes = b'"' in block.regular or b"\\" in block.regular
    statement = stream.statement if quotes else stream.unquoted_statement
    async with worker.cursor() as cursor:
        async with cursor.copy(statement) as copy:
            await copy.write(block.regular)
        records = cursor.rowcount
    if records < block.regular_lines:
        quoted = sum(field[0].count(b"\n") for field in QUOTED.finditer(block.regular))
        if records < block.regular_lines - quoted:
            raise _TookFewer
    return records


async def _take_apart(
    worker: AsyncConnection, run_id: int, stream: Stream, records: Sequence[CsvRecord]
) -> int:
    """Send records the raw path; the number of those that were good."""
    row = await worker.execute(
        "select etl.take_apart(%s, %s, %s, %s, %s, %s, %s)",
        [
            run_id,
            stream.source.name,
            stream.table.as_string(),
            list(stream.header.fields),
            stream.header.delimiter,
            *as_arrays(records),
        ],
    )
    (loaded,) = await row.fetchone() or (0,)
    return int(loaded)
