"""Versions of the pipeline's tables in a run, and which SQL files must run for them.

A version identifies what a table holds: of staging the hash of its file, and of the
records that rules have rejected; of what is built the hash of the SQL files that fill
it, and of the versions that they read. Where all inputs of a file have the versions
that they had when it last ran, its result is the same. Knows no database.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from itertools import count

from etl.run.kept import FEATURES, Kept, digest
from etl.run.records import Run
from etl.run.steps import Result
from etl.run.streams import Stream
from etl.sqlfiles import Rule, SqlFile
from etl.sqlinputs import calls, is_volatile, reads, writes

#: The table that features is published from.
NEXT = "features_next"

#: What else the result of a file depends on: the engine, more than files, and to which
#: tables all files of the build write. No table can have such a name, with a space and
#: without quotes.
ENGINE, MORE, WRITES = "the engine", "more than files", "written tables"


def depends_on_more(file: SqlFile, kept: Kept) -> bool:
    """Whether a file depends on more than CSV files and SQL files: the clock or chance,
    a table, view or function that the engine cannot follow, or it does not say on what;
    or whether it writes to such a table.
    """
    names = reads(file, kept.tables)
    # The engine fills a table of changes before the file runs.
    changes = {file.redoes["changes"]} if file.redoes else set()
    if names is None or not names - changes <= kept.followed:
        return True
    if is_volatile(file) or calls(file, kept.other_functions):
        return True
    written = writes(file) or frozenset()
    return file.folder == "build" and not written.issubset(kept.built_tables)


def must_hash_rows(
    builds: Sequence[SqlFile], rules: Sequence[SqlFile], kept: Kept
) -> bool:
    """Whether features depends on more than files and SQL, so that only its rows say
    whether they are others now.
    """
    return any(depends_on_more(file, kept) for file in (*builds, *rules)) or any(
        FEATURES in (reads(file, (FEATURES,)) or ()) for file in builds
    )


class Versions:
    """The versions of all ``tables`` at a moment of a run; ``results`` are those of SQL
    files that still hold.
    """

    def __init__(
        self,
        run: Run,
        kept: Kept,
        streams: Sequence[Stream],
        builds: Sequence[SqlFile],
    ) -> None:
        self._run = run
        self._kept = kept
        self._builds = builds
        self._evaluations = count()
        written = {file.path: sorted(self.writes(file)) for file in builds}
        self._written = digest(written)
        self.tables = {
            **{f"staging.{stream.source}": stream.file.sha256 for stream in streams},
            **dict.fromkeys(kept.built_tables, ""),
            FEATURES: kept.published or str(run.id),
        }
        self.results = dict(kept.results)

    def inputs_of(self, file: SqlFile) -> dict[str, str]:
        """The versions of what a file reads; what the engine cannot follow has another
        one each time, as what the rules of this run have rejected.
        """
        names = set(reads(file, self.tables) or ())
        if file.folder == "clean":  # what it rejects there counts
            names.add(f"staging.{Rule.of(file).source}")
        never_seen = f"{self._run.id}.{next(self._evaluations)}"
        inputs = {name: self.tables.get(name, never_seen) for name in names}
        inputs |= {ENGINE: self._kept.engine}
        if depends_on_more(file, self._kept):
            inputs |= {MORE: never_seen}
        if file.folder == "build":
            inputs |= {WRITES: self._written}
        return inputs

    def result_of(self, file: SqlFile, inputs: Mapping[str, str]) -> Result | None:
        """The result of a file, if it would be the same with these inputs."""
        found = self.results.get(file.path)
        if found and found.sha256 == file.sha256 and found.inputs == inputs:
            return found
        return None

    def ran(self, file: SqlFile, inputs: Mapping[str, str], rows: int) -> None:
        """Keep the result of a file that ran with these inputs."""
        self.results[file.path] = Result(file.sha256, inputs, rows)
        before = self._run.results.get(file.path)
        if not (file.folder == "clean" and before and before.rows and not rows):
            # A rule that runs again finds nothing, since it has rejected that.
            self._run.results[file.path] = self.results[file.path]

    def writes(self, file: SqlFile) -> Collection[str]:
        """The tables that a file of the build writes to: all where it does not say."""
        written = writes(file)
        return self._kept.built_tables if written is None else written

    def forget(self, paths: Iterable[str]) -> None:
        """Forget the results of files that are to run."""
        for path in paths:
            self.results.pop(path, None)
            self._run.results.pop(path, None)

    def begin_build(self) -> None:
        """Begin with the tables that the build fills as if they were empty."""
        self.tables |= dict.fromkeys(self._kept.built_tables, "")

    def built_by(self, file: SqlFile, inputs: Mapping[str, str]) -> None:
        """Set the versions of what a file has written."""
        for table in self.writes(file):
            if table in self.tables:
                self.tables[table] = digest(self.tables[table], file.sha256, inputs)

    def shares_a_table(self, file: SqlFile) -> bool:
        """Whether another file of the build writes to one of its tables."""
        others = [self.writes(each) for each in self._builds if each is not file]
        return not set().union(*others).isdisjoint(self.writes(file))

    def due(self) -> dict[str, dict[str, str]]:
        """The files of the build that must run, with their inputs, as far as can be
        seen before it.

        A table is filled by all of the files that write to it again, or by none.
        """
        ahead = copy(self)
        ahead.tables = dict(self.tables)
        inputs: dict[str, dict[str, str]] = {}
        due = set()
        for file in self._builds:
            inputs[file.path] = ahead.inputs_of(file)
            if ahead.result_of(file, inputs[file.path]) is None:
                due.add(file.path)
            ahead.built_by(file, inputs[file.path])

        def filled() -> set[str]:
            due_files = [file for file in self._builds if file.path in due]
            return set().union(*map(self.writes, due_files))

        while more := {
            file.path
            for file in self._builds
            if file.path not in due and filled() & set(self.writes(file))
        }:
            due |= more
        return {path: inputs[path] for path in inputs if path in due}
