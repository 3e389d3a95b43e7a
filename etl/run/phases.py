"""The phases of a run: load, clean, build, check and publish.

Knows their order and what a file of each may do, and nothing of what the files say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from psycopg import AsyncConnection, sql

from etl.csvfiles.blocks import block_bytes
from etl.errors import DataFault, ServiceFault, TooManyRejects
from etl.run.load import load_files
from etl.run.records import Run, save_run
from etl.run.rules import run_rule
from etl.run.steps import SET_SLICE, Job, Step, build, check, run_jobs
from etl.run.streams import Stream, open_streams
from etl.settings import Settings
from etl.sqlfiles import Rule, SqlFile, SqlFileError, read_pipeline

#: Bytes of each file up to which the planner does without statistics, and a duplicate
#: is left to a check. Where one is larger, small files count too: without statistics of
#: both its tables, a join may be planned that takes minutes.
BYTES_WITHOUT_STATISTICS = 100_000

#: Writes the rows that were built, and commits them where the future comes true.
Publish = Callable[["asyncio.Future[bool]"], Coroutine[None, None, None]]

log = logging.getLogger(__name__)


async def run_phases(
    run: Run,
    settings: Settings,
    lead: AsyncConnection,
    workers: Sequence[AsyncConnection],
    publish: Publish | None,
) -> None:
    """All phases, from the files to published rows; without ``publish`` all but that.

    Raises RunFault.
    """
    await lead.execute("select etl.empty_staging(false)")
    with ExitStack() as files:
        streams = await open_streams(
            lead, settings.data_dir, block_bytes(settings.load_workers), files
        )
        for stream in streams:
            run.warnings += stream.column_warnings()
        run.warnings += _not_loaded(settings.data_dir, streams)
        run.bytes_to_load = sum(stream.opened.size for stream in streams)
        pipeline = _Pipeline(run, settings, lead, workers, streams)
        loaders = workers[: settings.load_workers]
        limit = settings.max_rejects
        try:
            await load_files(loaders, run.id, streams, limit, run.files.append)
        finally:
            for stream in streams:
                run.warnings += stream.value_warnings()
        await pipeline.run_to_completion(publish)


class _Pipeline:
    """What follows once all files are loaded: the SQL files of a run, in order."""

    def __init__(
        self,
        run: Run,
        settings: Settings,
        lead: AsyncConnection,
        workers: Sequence[AsyncConnection],
        streams: Sequence[Stream],
    ) -> None:
        self._run = run
        self._lead = lead
        self._workers = workers
        self._builders = workers[: settings.build_workers]
        self._streams = {stream.source: stream for stream in streams}
        self._limit = settings.max_rejects
        try:
            files = read_pipeline(settings.sql_dir, ("clean", "build", "check"))
        except SqlFileError as error:
            raise ServiceFault(str(error)) from None
        self._rules = [Rule.of(file) for file in files["clean"]]
        self._builds, self._checks = files["build"], files["check"]

    async def run_to_completion(self, publish: Publish | None) -> None:
        """Clean, build, check and publish. Raises RunFault.

        A rule that a check verifies is first left out, unless it is suspected to find
        something. If the data fail the build, a check or publish, all rules run that do
        not follow the build, and if they rejected something, the build runs once more.
        """
        run = self._run
        await enter(run, self._lead, "clean")
        for number, builder in enumerate(self._builders):
            await builder.execute(SET_SLICE, [str(number), str(len(self._builders))])
        suspected = await self._suspected()
        await self._clean(
            [
                rule
                for rule in self._rules
                if not rule.verified_by or rule.file.path in suspected
            ]
        )
        warnings = list(run.warnings)
        try:
            await self._build_and_publish(publish)
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
            await self._lead.execute("select etl.empty_built(true)")
            await self._build_and_publish(publish)

    async def _suspected(self) -> set[str]:
        """The rules whose column surely has duplicates, or that rejected something in
        the last run. Large files get statistics for the planner meanwhile.
        """
        rows = await self._lead.execute(
            "select etl.rules_that_rejected(%s)", [self._run.id]
        )
        suspected = {path for (path,) in await rows.fetchall()}

        async def analyze(source: str, worker: AsyncConnection) -> None:
            table = sql.Identifier("staging", source)
            await worker.execute(sql.SQL("analyze {}").format(table))

        async def suspect(rule: Rule, worker: AsyncConnection) -> None:
            row = await worker.execute(
                "select etl.has_duplicates(%s, %s)", [rule.source, rule.at_fault[0]]
            )
            if await row.fetchone() == (True,):
                suspected.add(rule.file.path)

        largest_first = sorted(
            self._streams.values(), key=lambda each: -each.file.bytes
        )
        if not largest_first or largest_first[0].file.bytes <= BYTES_WITHOUT_STATISTICS:
            return suspected
        jobs: list[Job] = []
        for stream in largest_first:
            jobs += [
                partial(suspect, rule)
                for rule in self._rules
                if rule.source == stream.source
                and rule.verified_by
                and rule.keeps_first
                and len(rule.at_fault) == 1
            ]
            jobs.append(partial(analyze, stream.source))
        await run_jobs(self._workers, jobs)
        return suspected

    async def _clean(self, rules: Sequence[Rule]) -> int:
        """Run rules, but those that follow the build; how many records they reject."""
        await self._lead.execute("select etl.create_working_tables()")
        return sum(
            [await self._run_rule(rule) for rule in rules if not rule.runs_after]
        )

    async def _run_rule(self, rule: Rule) -> int:
        self._run.sql_file = rule.file.path
        stream = self._streams.get(rule.source)
        if stream is None:
            raise ServiceFault(
                f"{rule.file.path}: it rejects records of {rule.source}, and there is "
                f"no table staging.{rule.source}"
            )
        step = await run_rule(rule, self._lead, self._run.id, stream, self._limit)
        self._run.steps.append(step)
        return step.rows

    async def _build_and_publish(self, publish: Publish | None) -> None:
        """Run the build, after each of its files the rules that follow it; then check
        and publish.
        """
        run = self._run
        await enter(run, self._lead, "build")
        for file in self._builds:
            run.sql_file = file.path
            run.steps.append(await build(file, self._lead, self._builders))
            for rule in self._rules:
                if rule.runs_after == file.path:
                    await self._run_rule(rule)
        await enter(run, self._lead, "check")
        if publish is None:
            await self._check(self._workers)
        else:
            await self._check_and_publish(publish)

    async def _check_and_publish(self, publish: Publish) -> None:
        """Check while the rows are written already; they count when all checks passed.

        A fault of a check comes before one of publish, which may well be its effect.
        """
        checked = asyncio.get_running_loop().create_future()
        publishing = asyncio.create_task(publish(checked))
        try:
            await self._check(self._workers[1:] or self._workers)  # one core publishes
            self._run.phase = "publish"
            checked.set_result(True)
            await publishing
        except DataFault:
            if not checked.done():
                checked.set_result(False)
            await asyncio.gather(publishing, return_exceptions=True)
            raise
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)

    async def _check(self, workers: Sequence[AsyncConnection]) -> None:
        """Run all checks. Raises the DataFault of the first, in the order of files."""
        run = self._run
        outcomes: dict[str, Step | DataFault] = {}

        async def run_check(file: SqlFile, worker: AsyncConnection) -> None:
            run.sql_file = file.path
            try:
                outcomes[file.path] = await check(
                    file, worker, run.warnings.append, run.overrides
                )
            except DataFault as fault:
                outcomes[file.path] = fault

        await run_jobs(workers, [partial(run_check, file) for file in self._checks])
        for file in self._checks:
            outcome = outcomes[file.path]
            if isinstance(outcome, DataFault):
                raise outcome
            run.steps.append(outcome)


async def enter(run: Run, lead: AsyncConnection, phase: str) -> None:
    """Put on record that a phase begins."""
    run.phase = phase
    run.summary = await save_run(lead, run)


def _not_loaded(data_dir: Path, streams: Sequence[Stream]) -> list[str]:
    """A warning for each CSV file that has no table."""
    names = {stream.file.file for stream in streams}
    return [
        f"{path.name}: there is no table staging.{path.stem}: not loaded"
        for path in sorted(data_dir.glob("*.csv"))
        if path.name not in names
    ]
