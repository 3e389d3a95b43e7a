"""Runs the rules of ``sql/clean``: from the values that a rule finds to rejects.

SQL counts, compares by type, deletes and writes ``etl.rejects``; see
etl/functions/040_rules.sql. Here the records with these values are found in the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from psycopg import AsyncConnection, Rollback, sql

from etl.csvfiles.blocks import Block, CsvRecord
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
    query = re.sub(r";\s*\Z", "", rule.file.text)
    if not re.sub(r"--.*", "", query).strip():
        raise ServiceFault(f"{rule.file.path} {NO_STATEMENT}")
    with timed(rule.file, len(before)) as step:
        found = await lead.execute(f"{before}{query}{after}".encode())
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
        delete = sql.SQL("select * from etl.delete_violations({}, {})").format(
            rule.source, rule.keeps_first
        )
        async with transaction(self.lead, delete) as deleted:
            records, kept, is_consequence = await deleted.fetchone() or (0, 0, False)
            rejected: int = records - kept
            if not limit.allows(file.rejected + rejected, file.records):
                raise Rollback
            if records:
                await self._find(lambda found, _: found == records)
                rejected = await self._write()
                file.rejected += rejected
            return rejected
        await self._find(
            lambda found, kept: found - kept >= min(rejected, MAX_ERRORS_NAMED)
        )
        await count_reasons(self.lead, self.run_id, [file])
        await self._write()
        file.add_reason(rule.reason, is_consequence, rejected)
        file.rejected += rejected
        file.counted = file.rejected  # most are not on record
        await require_few(self.lead, self.run_id, self.stream, limit)
        return rejected

    async def _find(self, is_enough: Callable[[int, int], bool]) -> None:
        """Match records of the file, in its order, until enough are found.

        Those that show one of the values as text come first: mostly, others need not be
        read. ``is_enough`` gets how many are found, and how many of them will be kept.
        """
        shown = await self._values()
        for values in (shown, None) if shown else (None,):
            for block in sorted(self.stream.blocks, key=lambda block: block.offset):
                async for part in in_parts(self._records_of(block, values)):
                    if is_enough(*await self._match(part)):
                        return
            await self.lead.execute("truncate pg_temp.pending_rejects")
        raise ServiceFault(
            f"{self.rule.file.path}: the values that it returns are not those of "
            f"records in {self.stream.file.file}"
        )

    async def _values(self) -> _Values | None:
        """The values as text, None for more than memory is to hold."""
        rows = await self.lead.execute(
            "select column_name from etl.columns_of_violations(%s) order by nth",
            [self.rule.source],
        )
        columns = [name for (name,) in await rows.fetchall()]
        rows = await self.lead.execute(
            "select array(select row_values ->> name from unnest(%s::text[]) as name)"
            " from pg_temp.violations limit %s",
            [columns, MAX_VALUES + 1],
        )
        found = await rows.fetchall()
        if len(found) > MAX_VALUES:
            return None
        positions = [self.stream.header.columns.index(name) for name in columns]
        texts = {
            tuple(_comparable((value or "").encode()) for value in values)
            for (values,) in found
        }
        return _Values(positions, texts)

    def _records_of(self, block: Block, values: _Values | None) -> Iterator[CsvRecord]:
        """The records of a block, or those that show one of the values."""
        reader, patterns = self.stream.reader, self.stream.patterns
        if values is None:
            yield from self.stream.records_of(block)
            return
        delimiter = self.stream.header.delimiter.encode()
        needles = values.needles
        candidates = (
            reader.records_containing(block, patterns, needles)
            if needles
            else reader.records_of(block, patterns)
        )
        for line, record in candidates:
            if values.are_in(record.split(delimiter)):
                yield reader.csv_record(line, record)

    async def _match(self, records: list[CsvRecord]) -> tuple[int, int]:
        """Match more records; how many are found by now, and will be kept."""
        header = self.stream.header
        await copy_raw_records(self.lead, records)
        row = await self.lead.execute(
            "select found, kept from etl.match_violations(%s, %s, %s, %s, %s)",
            [
                *(self.run_id, self.rule.source, list(header.fields)),
                *(header.delimiter, self.rule.keeps_first),
            ],
        )
        found, kept = await row.fetchone() or (0, 0)
        return found, kept

    async def _write(self) -> int:
        """Write what was matched to etl.rejects, and put back what is kept; how many
        are rejected.
        """
        rule, fields = self.rule, list(self.stream.header.fields)
        row = await self.lead.execute(
            "select etl.reject_pending(%s, %s, %s, %s, %s, %s)",
            [
                *(self.run_id, rule.source, fields),
                *(rule.at_fault, rule.reason, rule.keeps_first),
            ],
        )
        (rejected,) = await row.fetchone() or (0,)
        return int(rejected)


@dataclass(frozen=True)
class _Values:
    """Values by the positions of their fields, in a form that all spellings share."""

    positions: list[int]
    texts: set[tuple[bytes, ...]]

    @property
    def needles(self) -> list[bytes]:
        """Bytes of which each record with one of the values has one; empty for none."""
        longest = [max(values, key=len) for values in self.texts]
        are_few = len(longest) <= MAX_NEEDLES and all(longest)
        return longest if are_few and not any(b'"' in each for each in longest) else []

    def are_in(self, fields: list[bytes]) -> bool:
        """Whether a record has one of the values, as far as its text shows it."""
        if len(fields) <= max(self.positions):
            return False
        return tuple(_comparable(fields[at]) for at in self.positions) in self.texts


def _comparable(value: bytes) -> bytes:
    """What all spellings of a value have in common; SQL decides which are equal."""
    value = value.strip(AROUND).replace(b'""', b'"')
    if b"." in value:
        value = value.rstrip(b"0").rstrip(b".")
    return value.lstrip(b"+-0")
