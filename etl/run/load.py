"""Loads the files of a run into their tables, on several connections.

Regular records go by COPY, the fast path. The others, and blocks that COPY refuses, go
the slow path: COPY brings them as text, and SQL parses them and rejects the bad ones.
Where a file cannot be cut into records of text, the run fails: see DataFault in
csvfiles/blocks.py.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from psycopg import AsyncConnection, DataError, IntegrityError, sql

from etl.csvfiles.blocks import MAX_BLOCK_BYTES, Block, CsvRecord
from etl.errors import DataFault, all_together
from etl.postgres.sqlerrors import one_line
from etl.postgres.transactions import transaction
from etl.run.copying import CopyBlock, copy_raw_records, in_parts
from etl.run.records import Run
from etl.run.rejects import require_few
from etl.run.streams import MAX_LINES, MAX_SHOWN, Stream
from etl.settings import RejectLimit

#: Begins the transaction of a block that takes the slow path, or a part of it.
WORKING_TABLES = sql.SQL("select etl.create_working_tables()")


async def load_files(
    workers: Sequence[AsyncConnection],
    run: Run,
    streams: Sequence[Stream],
    limit: RejectLimit,
    copy_regular: CopyBlock,
) -> None:
    """Load all files, their regular records by ``copy_regular``.

    Every worker takes the next block of whichever file is being read and loads it in
    one transaction, while the next ones are read: memory holds a block a worker and
    two. ``run`` gets each file as its reading begins. Raises DataFault, also as soon as
    a file must have more rejects than ``limit`` allows.
    """
    for worker in workers:
        _enlarge_send_buffer(worker)
    blocks: asyncio.Queue[tuple[Stream, Block] | None] = asyncio.Queue(maxsize=1)
    too_many = False

    async def read() -> None:
        for stream in streams:
            file, opened, reader = stream.file, stream.opened, stream.reader
            run.files.append(file)
            file.bytes = opened.bytes
            while reader.offset < opened.size and (
                block := await asyncio.to_thread(reader.next_block)
            ):
                file.bytes = opened.bytes
                await blocks.put((stream, block))
                if too_many:
                    await blocks.put(None)
                    return
            file.sha256 = opened.sha256
        await blocks.put(None)

    async def work(worker: AsyncConnection) -> None:
        nonlocal too_many
        while item := await blocks.get():
            if too_many:
                continue
            stream, block = item
            await _load(worker, run.id, stream, block, copy_regular)
            file = stream.file
            if not limit.allows(file.rejected, file.records):
                most = await asyncio.to_thread(stream.max_records)
                too_many = too_many or not limit.allows(file.rejected, most)
        await blocks.put(None)  # for the next worker

    await all_together([read(), *map(work, workers)])
    for stream in streams:
        await require_few(workers[0], run.id, stream, limit)


def _enlarge_send_buffer(worker: AsyncConnection) -> None:
    """Let the kernel hold a whole block for the server, as far as it may.

    Python cannot send while a thread that cuts the next block keeps the interpreter.
    It saves an eighth of the load, half of that where net.core.wmem_max is Linux' own.
    TCP finds its size by itself.
    """
    with socket.socket(fileno=os.dup(worker.fileno())) as near_end:
        if near_end.family == socket.AF_UNIX:
            with suppress(OSError):  # of a system that allows less, and says so
                near_end.setsockopt(
                    socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_BLOCK_BYTES
                )


async def _load(
    worker: AsyncConnection,
    run_id: int,
    stream: Stream,
    block: Block,
    copy_regular: CopyBlock,
) -> None:
    """Load one block in one transaction, and count its records.

    The regular records come last: through a node of Citus, they are committed at once
    (see nodes.py). A block that COPY refuses, though its records are regular, goes the
    slow path as a whole: another few of them would be refused as well.
    """
    try:
        if not block.irregular:
            records = loaded = await copy_regular(worker, stream, block)
        else:
            async with transaction(worker, WORKING_TABLES):
                loaded = await _parse(worker, run_id, stream, block.irregular)
                regular = await copy_regular(worker, stream, block)
            records, loaded = regular + len(block.irregular), regular + loaded
    except (DataError, IntegrityError):
        try:
            async with transaction(worker, WORKING_TABLES):
                records = loaded = 0
                async for some in in_parts(stream.records_of(block)):
                    loaded += await _parse(worker, run_id, stream, some)
                    records += len(some)
        except (DataError, IntegrityError) as error:
            where = f"{stream.file.file}, in or after line {block.line}"
            raise DataFault(f"{where}: {one_line(error)}") from error
    if block.lines - records >= MAX_LINES:
        found = await asyncio.to_thread(stream.long_values_of, block)
        stream.long_values = sorted([*stream.long_values, *found])[:MAX_SHOWN]
    stream.file.records += records
    stream.file.rejected += records - loaded
    stream.blocks.append(replace(block, regular=b"", irregular=()))


async def _parse(
    worker: AsyncConnection, run_id: int, stream: Stream, records: Iterable[CsvRecord]
) -> int:
    """Send records the slow path; the number of those that were loaded."""
    await copy_raw_records(worker, records)
    row = await worker.execute(
        "select etl.load_raw_records(%s, %s, %s, %s, %s)",
        [
            run_id,
            stream.target_schema,
            stream.source,
            list(stream.header.fields),
            stream.header.delimiter,
        ],
    )
    (loaded,) = await row.fetchone() or (0,)
    return int(loaded)
