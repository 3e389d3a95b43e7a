"""What runs keep for later ones: which files are loaded, and results of SQL files.

Knows what makes them worthless, and nothing of how files are loaded and SQL files run;
see etl/functions/080_kept.sql.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from psycopg import AsyncConnection, DataError, IntegrityError, sql

from etl.csvfiles.blocks import Block
from etl.errors import DataFault
from etl.postgres.sqlerrors import one_line
from etl.run.steps import Result
from etl.run.streams import Stream
from etl.settings import PROJECT
from etl.sqlfiles import SqlFile
from etl.sqlinputs import writes

#: The table that a run publishes.
FEATURES = "features"

#: What a run writes there follows from its files and SQL. So a run over the same ones
#: may be repeated as a whole; in any other one, a file that reads them runs again.
OF_THE_RUN = ("etl.runs", "etl.rejects")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptLoad:
    """A file that a table in staging holds completely."""

    bytes: int
    sha256: str
    records: int
    next_line: int
    header: str
    blocks: Sequence[tuple[int, int, int, int]]
    long_values: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Kept:
    """What a run finds.

    ``engine`` is the version of the program and of the schema. ``columns`` are those of
    staging, as ``etl.source_columns`` has them. ``other_tables`` and
    ``other_functions`` are what SQL files may read beside what runs fill: see
    ``etl.others``. ``published`` is the version of features_next that features holds,
    '' where that is not known. ``unanalyzed`` are tables of staging without statistics.
    ``distributed`` are the sources whose tables Citus has distributed over its nodes,
    which then share the work of a statement by themselves. ``last`` is the run that
    found features as it would have published it: its ``state``, and what it reported.
    """

    engine: str
    columns: Sequence[Sequence[Any]]
    built_tables: Sequence[str]
    other_tables: frozenset[str]
    other_functions: frozenset[str]
    loads: Mapping[str, KeptLoad]
    results: dict[str, Result]
    published: str
    unanalyzed: Sequence[str]
    distributed: Sequence[str]
    last: Mapping[str, Any] | None

    @cached_property
    def followed(self) -> frozenset[str]:
        """The tables of which a run knows whether they have changed."""
        sources = (f"staging.{column[0]}" for column in self.columns)
        return frozenset((*sources, *self.built_tables, FEATURES, *OF_THE_RUN))

    @cached_property
    def tables(self) -> frozenset[str]:
        """All tables and views that a SQL file may name."""
        return self.followed | self.other_tables


async def read_kept(connection: AsyncConnection, *, is_full: bool) -> Kept:
    """Read what was kept. Forgets what others have touched; in a full run, all."""
    rows = await connection.execute(
        "select etl.kept_state(%s, %s)", [_program_version(), is_full]
    )
    (found,) = await rows.fetchone() or ({},)
    if found["touched"]:
        names = ", ".join(sorted(found["touched"]))
        log.info("others have written to %s: filled again", names)
    return Kept(
        engine=found["engine"],
        columns=found["columns"] or [],
        built_tables=found["built_tables"] or [],
        other_tables=frozenset(found["others"]["tables"] or ()),
        other_functions=frozenset(found["others"]["functions"] or ()),
        loads={
            source: KeptLoad(*(row[name] for name in KeptLoad.__dataclass_fields__))
            for source, row in (found["loads"] or {}).items()
        },
        results={
            path: Result(row["sha256"], row["inputs"], row["rows"])
            for path, row in (found["results"] or {}).items()
        },
        published=found["published"] or "",
        unanalyzed=found["unanalyzed"] or [],
        distributed=found["distributed"] or [],
        last=found["last"],
    )


async def compare_files(
    streams: Iterable[Stream], kept: Kept, builds: Iterable[SqlFile]
) -> None:
    """Hash files, side by side, to see which are kept or appended to.

    A file that cannot be either is hashed while it is loaded, and so is that of a table
    which the build changes. Raises DataFault where one is changed meanwhile.
    """
    changed = _written_by(builds)
    await asyncio.gather(
        *(
            asyncio.to_thread(_compare, stream, kept.loads[stream.source])
            for stream in streams
            if stream.source in kept.loads and f"staging.{stream.source}" not in changed
        )
    )


def _written_by(files: Iterable[SqlFile]) -> set[str]:
    """The tables that files name as those that they write to."""
    return {table for file in files for table in writes(file) or ()}


def _compare(stream: Stream, load: KeptLoad) -> None:
    opened, file = stream.opened, stream.file
    if opened.size < load.bytes:
        return
    if opened.hash_all(load.bytes) != load.sha256:
        return
    is_appended = opened.size > load.bytes
    if is_appended and (
        opened.read_at(load.bytes - 1, 1) != b"\n"
        or _header_digest(stream) != load.header
    ):
        return
    file.load = "appended" if is_appended else "kept"
    file.records = file.records_kept = load.records
    stream.blocks = [Block(*block) for block in load.blocks]
    stream.long_values = [(line, lines) for line, lines in load.long_values]
    stream.kept_bytes = load.bytes
    stream.reader.skip_to(load.bytes, load.next_line)


def _header_digest(stream: Stream) -> str:
    """All that was found out about the columns, also from the first records."""
    return digest(dataclasses.asdict(stream.header))


async def keep_loads(
    connection: AsyncConnection, run_id: int, streams: Iterable[Stream]
) -> None:
    """Make tables in staging what they were when their files were loaded, and prepare
    those that are to be loaded or appended to.
    """
    changed = [stream.source for stream in streams if stream.file.load == "loaded"]
    if changed:
        await connection.execute("select etl.empty_sources(%s)", [changed])
    for stream in streams:
        if stream.file.load == "loaded":
            if stream.skipped:
                await _add_skipped_columns(connection, stream)
            continue
        is_appended = stream.file.load == "appended"
        header = stream.header
        rows = await connection.execute(
            "select etl.keep_load(%s, %s, %s, %s, %s)",
            [
                *(run_id, stream.source, list(header.fields), header.delimiter),
                is_appended,
            ],
        )
        (stream.file.rejected,) = await rows.fetchone() or (0,)
        if stream.is_apart:
            # With the columns and constraints that the table in staging has now.
            table = (
                "drop table if exists {0}; create unlogged table {0}"
                " (like {1} including all) with (autovacuum_enabled = false)"
            )
            await connection.execute(
                sql.SQL(table).format(
                    stream.target, sql.Identifier("staging", stream.source)
                )
            )


async def _add_skipped_columns(connection: AsyncConnection, stream: Stream) -> None:
    """Give a table in staging a spare column for each that it lacks.

    They stay, for a column that is dropped leaves a trace for ever. The type "char"
    takes any value and keeps a byte of it.
    """
    added = sql.SQL(", ").join(
        sql.SQL('add column if not exists {} "char"').format(sql.Identifier(name))
        for name in stream.skipped
    )
    await connection.execute(sql.SQL("alter table {} {}").format(stream.target, added))


async def save_loads(
    connection: AsyncConnection,
    run_id: int,
    engine: str,
    streams: Iterable[Stream],
    builds: Iterable[SqlFile],
) -> None:
    """Save what was loaded, but for tables that the build changes; records that were
    appended join the others.
    """
    changed = _written_by(builds)
    loads = [
        {
            "source": stream.source,
            "run_id": run_id,
            "engine": engine,
            "is_apart": stream.is_apart,
            "bytes": stream.opened.size,
            "sha256": stream.file.sha256,
            "records": stream.file.records,
            "next_line": stream.reader.line,
            "header": _header_digest(stream),
            "blocks": [
                (block.offset, block.length, block.line, block.lines)
                for block in stream.blocks
            ],
            "long_values": stream.long_values,
        }
        for stream in streams
        if stream.file.load != "kept" and f"staging.{stream.source}" not in changed
    ]
    if not loads:
        return
    try:
        await connection.execute("select etl.save_loads(%s::json)", [json.dumps(loads)])
    except (DataError, IntegrityError) as error:  # a constraint of the pipeline's
        raise DataFault(f"appended records: {one_line(error)}") from error


def digest(*parts: object) -> str:
    """A version made of others."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@cache
def _program_version() -> str:
    """The version of this program: how it reads files may change with each."""
    files = sorted((PROJECT / "etl").rglob("*.py"))
    return digest(*(hashlib.sha256(file.read_bytes()).hexdigest() for file in files))
