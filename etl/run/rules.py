"""Runs the rules of ``sql/clean``: from the values that a rule finds to rejects.

SQL counts, compares by type, deletes and writes ``etl.rejects``; see
etl/functions/040_rules.sql. Here the records with these values are found in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from psycopg import AsyncConnection, Rollback, sql

from etl.csvfiles.blocks import CsvRecord
from etl.errors import ServiceFault
from etl.postgres.sqlerrors import NO_STATEMENT
from etl.postgres.transactions import transaction
from etl.run.copying import copy_raw_records, in_parts
from etl.run.rejects import MAX_ERRORS_NAMED, count_reasons, require_few
from etl.run.steps import Step, timed
from etl.run.streams import Stream
from etl.settings import RejectLimit
from etl.sqlfiles import Rule

#: Values up to which a search of the bytes is faster than a split of each record, and
#: up to which they are held in memory: beyond, SQL compares every record of the file.
MAX_NEEDLES, MAX_VALUES = 20, 250_000

#: What may be around a value in its field.
AROUND = b' \t\r\n"\x1a\xef\xbb\xbf'

#: What spellings of a number may begin with; of -5 and 5 SQL knows which is meant.
SIGNS_AND_ZEROS = b"+-0"

#: What ends a query; only comments may follow.
LAST_SEMICOLON = re.compile(r";(?=(?:\s|--[^\n]*)*\Z)")

#: Members of a rule's rows that are no values of the source.
MEMBERS = "{message,cause_file,cause_line}"


async def run_rule(
    rule: Rule,
    lead: AsyncConnection,
    run_id: int,
    stream: Stream,
    limit: RejectLimit,
) -> Step:
    """Run one rule, and reject the records that it finds.

    Raises TooManyRejects where these are more than ``limit`` allows: then only the
    first ones are on record, and nothing is deleted; and what ``timed`` does.
    """
    before, after = _around_query(rule)
    query = LAST_SEMICOLON.sub("", rule.file.text)
    if not re.sub(r"--.*", "", query).strip():
        raise ServiceFault(f"{rule.file.path} {NO_STATEMENT}")
    with timed(rule.file, len(before)) as step:
        text = f"{before}{query}{after}".encode()
        found = await lead.execute(text, prepare=False)  # as in steps.py
        if found.rowcount:
            step.rows = await _Rejection(rule, lead, run_id, stream).run(limit)
            await lead.execute("truncate pg_temp.violations, pg_temp.pending_rejects")
    return step


def _around_query(rule: Rule) -> tuple[str, str]:
    """What is sent before the query of a rule and after it, to keep what it finds."""
    columns = sql.SQL(", ").join(
        sql.SQL("found.{}::text").format(sql.Identifier(name)) for name in rule.at_fault
    )
    before = sql.SQL(
        "insert into pg_temp.violations"
        " (row_values, at_fault, message, cause_file, cause_line)"
        " select to_jsonb(found) - {members}::text[], array[{columns}], {message},"
        " members.cause_file, members.cause_line from (\n"
    ).format(
        members=MEMBERS,
        columns=columns,
        # Only a rule that keeps the first may leave the message to the engine.
        message=sql.SQL("members.message" if rule.keeps_first else "found.message"),
    )
    after = (
        "\n) as found cross join lateral jsonb_to_record(to_jsonb(found))"
        " as members (message text, cause_file text, cause_line bigint)"
    )
    return before.as_string(None), after


@dataclass(frozen=True)
class _Rejection:
    """Rejects the records that have what a rule has found."""

    rule: Rule
    lead: AsyncConnection
    run_id: int
    stream: Stream

    async def run(self, limit: RejectLimit) -> int:
        """Reject them; their number. Raises TooManyRejects."""
        rule, file = self.rule, self.stream.file
        await self.lead.execute("select etl.cast_violations(%s)", [rule.source])
        delete = sql.SQL("select * from etl.delete_violations({}, {})").format(
            rule.source, rule.keeps_first
        )
        async with transaction(self.lead, delete) as deleted:
            records, kept, is_consequence = await deleted.fetchone() or (0, 0, False)
            rejected: int = records - kept
            if not limit.allows(file.rejected + rejected, file.records):
                raise Rollback
            if records:
                await self._find(records)
                rejected = await self._write()
                file.rejected += rejected
            return rejected
        # Rolled back, since there are too many: the first ones are named. They are
        # rejects and rows of the table at once, so that is not kept.
        await self.lead.execute(
            "delete from etl.loads where source = %s", [self.rule.source]
        )
        await self._find(min(rejected, MAX_ERRORS_NAMED), besides_kept=True)
        await count_reasons(self.lead, self.run_id, [file])
        await self._write()
        file.add_reason(rule.reason, is_consequence, rejected)
        file.rejected += rejected
        file.counted = file.rejected  # most are not on record
        await require_few(self.lead, self.run_id, self.stream, limit)
        return rejected

    async def _find(self, wanted: int, *, besides_kept: bool = False) -> None:
        """Match records of the file, in its order, until so many are found; with
        ``besides_kept`` without those that stay, as the first with their values.

        Those that show one of the values as text come first: mostly, others need not be
        read.
        """
        values_in_text = await self._values()
        for values in (values_in_text, None) if values_in_text else (None,):
            found = 0
            async for part in in_parts(self._records(values)):
                found += await self._match(part)
                if found - (await self._first_ones() if besides_kept else 0) >= wanted:
                    return
            await self.lead.execute("truncate pg_temp.pending_rejects")
        raise ServiceFault(
            f"{self.rule.file.path}: the values that it returns are not those of "
            f"records in {self.stream.file.file}"
        )

    async def _values(self) -> _Values | None:
        """Values that records show as text; None if there are more than MAX_VALUES."""
        column = self.rule.at_fault[0]
        rows = await self.lead.execute(
            "select distinct coalesce(row_values ->> %s, '') from pg_temp.violations"
            " limit %s",
            [column, MAX_VALUES + 1],
        )
        texts = {_common(text.encode()) for (text,) in await rows.fetchall()}
        if len(texts) > MAX_VALUES:
            return None
        return _Values(self.stream.header.columns.index(column), texts)

    def _records(self, values: _Values | None) -> Iterator[CsvRecord]:
        """The records of the file, or those that show one of the values."""
        stream, needles = self.stream, values.needles if values else []
        for block in sorted(stream.blocks, key=lambda block: block.offset):
            lines = (
                stream.reader.records_containing(block, needles)
                if needles
                else stream.reader.records_of(block)
            )
            if values:
                lines = values.choose(lines, stream.header.delimiter.encode())
            for line, record in lines:
                yield stream.reader.csv_record(line, record)

    async def _match(self, records: list[CsvRecord]) -> int:
        """Match more records; how many of them are found."""
        header = self.stream.header
        await copy_raw_records(self.lead, records)
        row = await self.lead.execute(
            "select etl.match_violations(%s, %s, %s, %s)",
            [self.run_id, self.rule.source, list(header.fields), header.delimiter],
        )
        (found,) = await row.fetchone() or (0,)
        return int(found)

    async def _first_ones(self) -> int:
        """How many of the records that were found are the first with their values."""
        if not self.rule.keeps_first:
            return 0
        row = await self.lead.execute(
            "select count(distinct at_fault) from pg_temp.pending_rejects"
        )
        (kept,) = await row.fetchone() or (0,)
        return int(kept)

    async def _write(self) -> int:
        """Write what was matched to etl.rejects, and put back what is kept; how many
        are rejected.
        """
        rule, fields = self.rule, list(self.stream.header.fields)
        row = await self.lead.execute(
            "select etl.reject_pending(%s, %s, %s, %s, %s, %s, %s)",
            [
                *(self.run_id, rule.source, fields, rule.at_fault),
                *(rule.reason, rule.file.path, rule.keeps_first),
            ],
        )
        (rejected,) = await row.fetchone() or (0,)
        return int(rejected)


@dataclass(frozen=True)
class _Values:
    """The values of one column, by which records are found: its position in the file,
    and what all spellings of a value have in common.
    """

    position: int
    texts: set[bytes]

    @property
    def needles(self) -> list[bytes]:
        """Bytes of which each record with one of the values has one; empty for none."""
        are_few = len(self.texts) <= MAX_NEEDLES and all(self.texts)
        return list(self.texts) if are_few and b'"' not in b"".join(self.texts) else []

    def choose(
        self, lines: Iterable[tuple[int, bytes]], delimiter: bytes
    ) -> Iterator[tuple[int, bytes]]:
        """The records that have one of the values, as far as their text shows it."""
        position, texts = self.position, self.texts
        for line, record in lines:
            fields = record.split(delimiter, position + 1)
            if len(fields) > position:
                # as in _common(), whose call would take a third more time
                text = fields[position].strip(AROUND).lstrip(SIGNS_AND_ZEROS)
                if text in texts:
                    yield line, record


def _common(value: bytes) -> bytes:
    """What usual spellings of a value have in common; SQL decides which are equal."""
    return value.strip(AROUND).lstrip(SIGNS_AND_ZEROS)
