"""The SQL files of a run, in order: clean, build, check, and then publish.

Knows what a file of each folder may do, and which of them need not run again; knows
nothing of what the files say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import psycopg
from psycopg import AsyncConnection, sql

from etl.errors import DataFault, ServiceFault, TooManyRejects
from etl.run.examining import examine
from etl.run.kept import Kept, digest
from etl.run.parts import Part, part_of
from etl.run.publishing import publish, succeed
from etl.run.records import Run, enter
from etl.run.rules import run_rule
from etl.run.steps import Step, build, check, run_jobs
from etl.run.streams import Stream
from etl.run.versions import NEXT, Versions, must_hash_rows
from etl.settings import Settings
from etl.sqlfiles import Rule, SqlFile

log = logging.getLogger(__name__)


class _StaleResult(Exception):
    """The result of a file, which was to be kept, holds no longer."""


class Pipeline:
    """What follows once all files are loaded."""

    def __init__(
        self,
        run: Run,
        settings: Settings,
        lead: AsyncConnection,
        workers: Sequence[AsyncConnection],
        streams: Sequence[Stream],
        kept: Kept,
        files: dict[str, list[SqlFile]],
    ) -> None:
        self._run = run
        self._lead = lead
        self._workers = workers
        self._builders = workers[: settings.build_workers]
        if kept.distributed:  # the nodes take their shares of one statement
            self._builders = [lead]
        self._streams = {stream.source: stream for stream in streams}
        self._limit = settings.max_rejects
        self._kept = kept
        self._rules = [Rule.of(file) for file in files["clean"]]
        self._builds, self._checks = files["build"], files["check"]
        self._hashes_rows = must_hash_rows(self._builds, files["clean"], kept)
        self._versions = Versions(run, kept, streams, self._builds)

    async def run_to_completion(self) -> bool:
        """Clean, build, check and publish; whether features had the same rows already.

        A rule that a check verifies is first left out, unless it is suspected to find
        something. If the data fail the build, a check or publish, all rules run that do
        not follow the build, and if they rejected something, the build runs once more.
        Raises RunFault.
        """
        run = self._run
        await enter(run, self._lead, "clean")
        suspected = await examine(
            self._workers, self._streams.values(), self._rules, self._kept
        )
        await self._clean(
            [
                rule
                for rule in self._rules
                if not rule.verified_by or rule.file.path in suspected
            ]
        )
        warnings = list(run.warnings)
        try:
            return await self._build_and_publish()
        except TooManyRejects:
            raise
        except DataFault as fault:
            failed_in = run.phase
            log.info("run %d: runs all rules after: %s", run.id, fault)
            await enter(run, self._lead, "clean")
            if not await self._clean(self._rules):
                run.phase = failed_in
                raise
            run.warnings[:] = warnings
            return await self._build_and_publish()

    async def _clean(self, rules: Sequence[Rule]) -> int:
        """Run rules, but those that follow the build; how many records they reject."""
        await self._lead.execute("select etl.create_working_tables()")
        return sum(
            [await self._run_rule(rule) for rule in rules if not rule.runs_after]
        )

    async def _run_rule(self, rule: Rule) -> int:
        """Run a rule, unless it would find nothing, as before; how many records it
        rejects.
        """
        run, file = self._run, rule.file
        run.sql_file = file.path
        stream = self._streams.get(rule.source)
        if stream is None:
            raise ServiceFault(
                f"{file.path}: it rejects records of {rule.source}, and there is no "
                f"table staging.{rule.source}"
            )
        versions = self._versions
        inputs = versions.inputs_of(file)
        if (result := versions.result_of(file, inputs)) and not result.rows:
            self._keep(file, rows=0)
            return 0
        step = await run_rule(rule, self._lead, run.id, stream, self._limit)
        run.steps.append(step)
        versions.ran(file, inputs, step.rows)
        if step.rows:
            table = f"staging.{rule.source}"
            run.to_vacuum.add(table)
            rows = await self._lead.execute(
                "select md5(string_agg(line::text, ' ' order by line)) from etl.rejects"
                " where run_id = %s and is_consequence in (false, true)"
                " and file = %s and rule = %s",
                [run.id, stream.file.file, file.path],
            )
            (lines,) = await rows.fetchone() or ("",)
            versions.tables[table] = digest(versions.tables[table], lines)
        return step.rows

    def _has_changed(self) -> bool:
        """Whether a file was loaded, or a part of the build ran."""
        return any(
            stream.file.load != "kept" for stream in self._streams.values()
        ) or any(file.path in self._run.results for file in self._builds)

    def _keep(self, file: SqlFile, rows: int) -> None:
        """Report a file that need not run."""
        if all(step.file != file.path for step in self._run.steps):
            self._run.steps.append(Step(file.path, file.sha256, rows, kept=True))

    async def _build_and_publish(self) -> bool:
        """Build, then check and publish; whether features had the same rows already."""
        run, lead, versions = self._run, self._lead, self._versions
        await enter(run, lead, "build")
        try:
            await self._build()
        except _StaleResult:
            versions.forget(file.path for file in self._builds)
            await self._build()
        await enter(run, lead, "check")
        is_same = versions.tables[NEXT] == self._kept.published
        if not (run.dry or is_same):
            await self._check_and_publish()
            return False
        await self._check(self._workers)
        run.unchanged = is_same and not self._has_changed()
        if run.dry:  # save what publishing would have changed
            save = sql.SQL("select etl.save_changes({})").format(run.id)
        else:  # the digest of the data and SQL files may still differ
            save = sql.SQL(
                "update etl.published"
                " set run_id = {0}, content = etl.content_of({0}, {1})"
            ).format(run.id, self._hashes_rows)
        await succeed(run, lead, save)
        return is_same

    async def _build(self) -> None:
        """Run the files of the build that must run, and after each file the rules that
        follow it. Raises _StaleResult where a rule has changed what a kept file read.
        """
        run, lead, versions = self._run, self._lead, self._versions
        versions.begin_build()
        due, paths = versions.due(), {file.path for file in self._builds}
        has_run = {path for path in versions.results if path.startswith("build/")}
        parts: dict[str, Part] = {}
        for file in self._builds:
            if file.path in due and not versions.shares_a_table(file):
                before, inputs = versions.results.get(file.path), due[file.path]
                streams = self._streams.values()
                if part := part_of(file, before, inputs, streams, self._kept):
                    parts[file.path] = part
        kept = {
            table
            for file in self._builds
            if file.path not in due or file.path in parts
            for table in versions.writes(file)
        }
        # Also those that no file writes to: a run that failed may have filled them.
        emptied = {*self._kept.built_tables} - kept
        forgotten = [*due, *(has_run - paths)]
        if forgotten or emptied:
            versions.forget(forgotten)
            await lead.execute(
                "select etl.begin_build(%s, %s)", [forgotten, sorted(emptied)]
            )
        for file in self._builds:
            run.sql_file = file.path
            inputs = versions.inputs_of(file)
            if file.path in due:
                prepare = None
                if part := parts.get(file.path):
                    if inputs != due[file.path]:
                        raise _StaleResult
                    prepare = part.prepare
                    run.to_vacuum.add(part.target)
                step = await build(file, lead, self._builders, prepare)
                run.steps.append(step)
                versions.ran(file, inputs, step.rows)
            elif result := versions.result_of(file, inputs):
                self._keep(file, result.rows)
            else:
                raise _StaleResult
            versions.built_by(file, inputs)
            for rule in self._rules:
                if rule.runs_after == file.path:
                    await self._run_rule(rule)

    async def _check_and_publish(self) -> None:
        """Check while the rows are written already; they count when all checks passed.

        A fault of a check comes before one of publish, which may well be its effect.
        """
        checked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        built = self._versions.tables[NEXT]
        publishing = asyncio.create_task(
            publish(self._run, self._lead, built, self._hashes_rows, checked)
        )
        workers = self._workers[1:] or self._workers  # one core publishes
        try:
            await self._check(workers)
            self._run.phase = "publish"
            checked.set_result(None)
            await publishing
        except DataFault:
            if not checked.done():
                # By the server, since the run still needs the connection; and first, so
                # that the cancellation ends no later statement.
                with suppress(psycopg.Error):
                    await self._lead.cancel_safe()
                checked.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
            raise
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)

    async def _check(self, workers: Sequence[AsyncConnection]) -> None:
        """Run the checks that may find something. Raises the DataFault of the first, in
        the order of files.
        """
        run, versions = self._run, self._versions
        outcomes: dict[str, Step | DataFault] = {}

        async def run_check(file: SqlFile, worker: AsyncConnection) -> None:
            run.sql_file = file.path
            try:
                outcomes[file.path] = await check(
                    file, worker, run.warnings.append, run.allow_empty
                )
            except DataFault as fault:
                outcomes[file.path] = fault

        inputs = {file.path: versions.inputs_of(file) for file in self._checks}
        due = [
            file
            for file in self._checks
            if not (result := versions.result_of(file, inputs[file.path]))
            or result.rows
        ]
        await run_jobs(workers, [partial(run_check, file) for file in due])
        for file in self._checks:
            outcome = outcomes.get(file.path)
            if isinstance(outcome, DataFault):
                raise outcome
            if outcome is None:
                self._keep(file, rows=0)
            else:
                run.steps.append(outcome)
                versions.ran(file, inputs[file.path], outcome.rows)
