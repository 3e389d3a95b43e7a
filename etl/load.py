"""Blocks into COPY: every CSV file of a run into its staging table, on several streams.

Knows that ``<name>.csv`` goes to ``staging.<name>``, and no table by name.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg import AsyncConnection, DataError, IntegrityError, sql

from etl.blocks import QUOTED, Block, BlockReader, block_bytes, recognise_header
from etl.errors import DataFault, all_together

#: Where COPY says it stood: `COPY table, line 3, column name: "value"`.
COPY_CONTEXT = re.compile(r"^COPY [^,]+, line (\d+)(?:, column ([^:]+))?")


@dataclass(frozen=True)
class Source:
    """A staging table and its columns: what ``<name>.csv`` is loaded into."""

    name: str
    columns: tuple[str, ...]


@dataclass
class LoadedFile:
    """What a run's record tells of a file; ``bytes`` and ``records`` grow with it."""

    file: str
    bytes: int = 0
    sha256: str = ""
    records: int = 0
    rejected: int = 0


@dataclass(frozen=True)
class Stream:
    """A file on its way into its table, with the COPY that takes its blocks."""

    file: LoadedFile
    statement: sql.Composed
    #: In a table of one column COPY takes a blank line for a record.
    takes_blank_lines: bool


async def read_sources(connection: AsyncConnection) -> list[Source]:
    """The staging tables, by name."""
    rows = await connection.execute(
        "select name, columns from etl.sources order by name"
    )
    return [Source(name, tuple(columns)) for name, columns in await rows.fetchall()]


async def load_files(
    workers: Sequence[AsyncConnection],
    data_dir: Path,
    sources: Sequence[Source],
    begun: Callable[[LoadedFile], None],
) -> None:
    """Load the file of every source, and give the planner its statistics.

    Every worker takes the next block of whichever file is being read and sends it as
    one COPY in one transaction, so memory holds a block a worker. ``begun`` is called
    with each file as its reading begins. Raises DataFault.
    """
    size = block_bytes(len(workers))
    blocks = _blocks(data_dir, sources, size, begun)
    turn = asyncio.Lock()

    async def work(worker: AsyncConnection) -> None:
        while True:
            async with turn:
                item = await anext(blocks, None)
            if item is None:
                return
            stream, block = item
            records = await _copy(worker, stream, block)
            stream.file.records += records

    try:
        await all_together(work(worker) for worker in workers)
    finally:
        await blocks.aclose()
    tables = [sql.Identifier("staging", source.name) for source in sources]
    await workers[0].execute(sql.SQL("analyze {}").format(sql.SQL(", ").join(tables)))


async def _blocks(
    data_dir: Path,
    sources: Sequence[Source],
    size: int,
    begun: Callable[[LoadedFile], None],
) -> AsyncGenerator[tuple[Stream, Block]]:
    """The blocks of all files, one file after the other."""
    for source in sources:
        path = data_dir / f"{source.name}.csv"
        async with _open(path, size) as reader:
            header = recognise_header(path.name, reader.header_line, source.columns)
            statement = copy_statement(source.name, header.columns, header.delimiter)
            file = LoadedFile(path.name)
            stream = Stream(file, statement, len(header.columns) == 1)
            begun(file)
            while (block := await asyncio.to_thread(reader.next_block)) is not None:
                file.bytes = reader.bytes
                yield stream, block
            file.bytes, file.sha256 = reader.bytes, reader.sha256


@asynccontextmanager
async def _open(path: Path, size: int) -> AsyncIterator[BlockReader]:
    reader = await asyncio.to_thread(BlockReader, path, size)
    try:
        yield reader
    finally:
        reader.close()


def copy_statement(table: str, columns: Sequence[str], delimiter: str) -> sql.Composed:
    """COPY into ``staging.<table>``; an empty value is null, in quotes or not."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return sql.SQL(
        "copy {table} ({names}) from stdin with (format csv, delimiter {delimiter}, "
        "force_null ({names}), encoding 'UTF8')"
    ).format(
        table=sql.Identifier("staging", table),
        names=names,
        delimiter=sql.Literal(delimiter),
    )


async def _copy(worker: AsyncConnection, stream: Stream, block: Block) -> int:
    """Send one block; returns the number of its records.

    COPY refuses a blank line, since fields are missing in it, and line ends of two
    kinds. Both are rare and searching is not cheap, so only a block that was refused is
    tidied, and sent once more.
    """
    try:
        if not stream.takes_blank_lines:
            return await _send(worker, stream, block, block.data)
    except (DataError, IntegrityError) as error:
        fault = DataFault(f"{stream.file.file}, {_place(block, error)}")
    records = block.tidied()
    if records == block.data and not stream.takes_blank_lines:
        raise fault
    try:
        return await _send(worker, stream, block, records)
    except (DataError, IntegrityError) as error:
        raise DataFault(f"{stream.file.file}, {_place(block, error)}") from error


async def _send(
    worker: AsyncConnection, stream: Stream, block: Block, data: bytes
) -> int:
    async with worker.cursor() as cursor:
        async with cursor.copy(stream.statement) as copy:
            await copy.write(data)
        _require_all(stream.file.file, block, data, cursor.rowcount)
        return cursor.rowcount


def _require_all(file: str, block: Block, data: bytes, records: int) -> None:
    """Refuse a block of which COPY took fewer records than were sent.

    Before PostgreSQL 18 a line of `\\.` ends COPY as if all were well.
    """
    if records >= data.count(b"\n"):  # no quoted newline, nothing lost: the usual case
        return
    quoted = sum(field[0].count(b"\n") for field in QUOTED.finditer(data))
    sent = data.count(b"\n") - quoted
    if records < sent:
        line = block.file_line(records + 1)
        raise DataFault(f"{file}, line {line}: a line \\. ends the data too soon")


def _place(block: Block, error: DataError | IntegrityError) -> str:
    """Where a refused block is broken, and why: `line 3, column name: …`."""
    where = COPY_CONTEXT.match(error.diag.context or "")
    if where is None:
        return f"near line {block.line}: {error.diag.message_primary}"
    line = f"line {block.file_line(int(where[1]))}"
    column = where[2] or error.diag.column_name
    place = f"{line}, column {column}" if column else line
    return f"{place}: {error.diag.message_primary}"
