"""Parts of a table: what a file of the build does again when records were appended.

Such a file says ``-- redoes: target (key) by changes`` in its header: what it makes of
the target's rows with a key, and of appended records with it, is what it would make of
all records with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from psycopg import AsyncConnection

from etl.run.kept import Kept
from etl.run.steps import Result
from etl.run.streams import Stream
from etl.sqlfiles import SqlFile


@dataclass(frozen=True)
class Part:
    """The rows of ``target`` that share their ``keys`` with records appended to the
    ``sources``. Both are to be in ``changes``.
    """

    target: str
    keys: list[str]
    changes: str
    sources: list[str]

    async def prepare(self, connection: AsyncConnection) -> None:
        """Fill the table of changes, and remove these rows from the target."""
        await connection.execute(
            "select etl.begin_part(%s, %s, %s, %s)",
            [self.target, self.keys, self.changes, self.sources],
        )


def part_of(
    file: SqlFile,
    before: Result | None,
    inputs: Mapping[str, str],
    streams: Iterable[Stream],
    kept: Kept,
) -> Part | None:
    """The part that a file has to build, where that is not all.

    ``before`` is what it did when it last ran, and ``inputs`` are the versions of what
    it reads now. It is a part where these differ by appended records alone, and no rule
    has rejected a record of these files, now or then.
    """
    redoes = file.redoes
    if redoes is None or before is None or before.sha256 != file.sha256:
        return None
    if before.inputs.keys() != inputs.keys():
        return None
    changed = {table for table in inputs if inputs[table] != before.inputs[table]}
    appended = {
        f"staging.{stream.source}": stream for stream in streams if stream.is_apart
    }
    if not changed or not changed <= appended.keys():
        return None
    for table in changed:
        stream = appended[table]
        if before.inputs[table] != kept.loads[stream.source].sha256:
            return None
        if inputs[table] != stream.file.sha256:
            return None
    sources = sorted(appended[table].source for table in changed)
    keys = redoes["keys"].split(", ")
    return Part(redoes["target"], keys, redoes["changes"], sources)
