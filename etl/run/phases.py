"""The phases of a run: load, clean, build, check and publish.

Knows their order and what a file of each may do, and nothing of what the files say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from psycopg import AsyncConnection
from psycopg.errors import RaiseException

from etl.csvfiles.blocks import block_bytes
from etl.errors import (
    CheckFault,
    DataFault,
    ServiceFault,
    TooManyRejects,
    all_together,
)
from etl.postgres.sqlerrors import one_line
from etl.run.load import load_files
from etl.run.records import Run, note
from etl.run.rejects import reject_found
from etl.run.steps import Step, run_file
from etl.run.streams import Stream, open_streams
from etl.settings import Settings
from etl.sqlfiles import SqlFile, SqlFileError, read_pipeline

#: Writes the rows that were built, and commits them where the future comes true.
Publish = Callable[["asyncio.Future[bool]"], Coroutine[None, None, None]]

log = logging.getLogger(__name__)


class _Doubt(Exception):
    """The build refused a value that had looked plain."""


async def run_phases(
    run: Run,
    settings: Settings,
    lead: AsyncConnection,
    workers: Sequence[AsyncConnection],
    publish: Publish | None,
) -> None:
    """All phases, from the files to published rows; without ``publish`` all but that.

    Where the build refuses a value that was not looked at closely, all begins anew and
    every record is. Raises RunFault.
    """
    try:
        await _attempt(run, settings, lead, workers, publish, strict=False)
    except _Doubt as doubt:
        log.info("run %d: looks at every record after: %s", run.id, doubt)
        for notes in (run.files, run.steps, run.warnings):
            notes.clear()
        await lead.execute("delete from etl.rejects where run_id = %s", [run.id])
        await enter(run, lead, "load")
        await _attempt(run, settings, lead, workers, publish, strict=True)


async def _attempt(
    run: Run,
    settings: Settings,
    lead: AsyncConnection,
    workers: Sequence[AsyncConnection],
    publish: Publish | None,
    *,
    strict: bool,
) -> None:
    """A rule that a check proves is first left alone, unless it is in doubt.

    Where such a check fails, its rules are looked at, and what breaks them is rejected
    before build and checks run again; where the build fails, all are.
    """
    await lead.execute("select etl.empty_staging()")
    with ExitStack() as files:
        streams = await open_streams(
            *(lead, settings.data_dir, block_bytes(settings.load_workers)),
            *(run.warnings.append, files),
        )
        run.warnings += _not_loaded(settings.data_dir, streams)
        run.bytes_to_load = sum(stream.opened.size for stream in streams)
        pipeline = _Pipeline(run, settings, lead, workers, streams)
        loaders = workers[: settings.load_workers]
        limit = settings.max_rejects
        try:
            await load_files(loaders, run.id, streams, limit, run.files.append)
        finally:
            for stream in streams:
                run.warnings += stream.warnings()
        await pipeline.see_through(publish)


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
        self._streams = streams
        self._limit = settings.max_rejects
        self._rules, self._builds, self._checks = _files(settings)

    async def see_through(self, publish: Publish | None) -> None:
        """Clean, build, check and publish. Raises RunFault, or _Doubt.

        Every turn but the last rejects something, so that more turns than there are
        rules would get nowhere.
        """
        run = self._run
        doubted = await self._doubted()
        await self._clean(lambda rule: not rule.proof or rule.path in doubted)
        warnings = list(run.warnings)
        for turns_left in reversed(range(len(self._rules) + 1)):
            try:
                await self._build()
                await enter(run, self._lead, "check")
                await _check_and_publish(self._checks, self._builders, run, publish)
                return
            except TooManyRejects:
                raise
            except DataFault as fault:
                failed_in = run.phase
                log.info("run %d: looks at rules after: %s", run.id, fault)
                failed = fault.checks if isinstance(fault, CheckFault) else None
                wanted = partial(_may_mend, failed=failed)
                if not turns_left or not await self._clean(wanted):
                    run.phase = failed_in
                    raise
            run.warnings[:] = warnings
            await self._lead.execute("select etl.empty_built()")

    async def _doubted(self) -> set[str]:
        """The rules that are looked at though a check would tell."""
        rows = await self._lead.execute("select etl.rules_in_doubt(%s)", [self._run.id])
        return {path for (path,) in await rows.fetchall()}

    async def _clean(self, wanted: Callable[[SqlFile], bool]) -> int:
        """Reject what breaks one of the wanted rules; the number of records."""
        await enter(self._run, self._lead, "clean")
        rules = [rule for rule in self._rules if not rule.after and wanted(rule)]
        return sum([await self._look(rule) for rule in rules])

    async def _look(self, rule: SqlFile) -> int:
        """Reject what breaks a rule; the number of records."""
        step = await self._step(rule)
        try:
            rejected = await reject_found(
                self._lead, self._workers, self._run.id, self._streams, self._limit
            )
        except RaiseException as error:  # what the rule has found is nowhere
            raise ServiceFault(f"{rule.path}: {one_line(error)}") from error
        self._run.steps.append(replace(step, rows=rejected or step.rows))
        return rejected

    async def _build(self) -> None:
        """Run the build, and after each of its files the rules that follow it."""
        await enter(self._run, self._lead, "build")
        for file in self._builds:
            self._run.steps.append(await self._step(file))
            for rule in self._rules:
                if rule.after == file.path:
                    await self._look(rule)

    async def _step(self, file: SqlFile) -> Step:
        self._run.sql_file = file.path
        warn = self._run.warnings.append
        return await run_file(file, self._lead, self._builders, warn)


def _may_mend(rule: SqlFile, failed: Collection[str] | None) -> bool:
    """Whether a rule may be broken where these checks failed; None stands for all."""
    return failed is None or rule.proof in failed


async def enter(run: Run, lead: AsyncConnection, phase: str) -> None:
    """Put on record that a phase begins."""
    run.phase = phase
    run.record = await note(lead, run)


async def _check_and_publish(
    files: Sequence[SqlFile],
    workers: Sequence[AsyncConnection],
    run: Run,
    publish: Publish | None,
) -> None:
    """Check while the rows are written already; they count when all checks passed.

    A fault of a check comes before one of publish, which may well be its effect.
    """
    if publish is None:
        await _check(files, workers, run)
        return
    checked = asyncio.get_running_loop().create_future()
    publishing = asyncio.create_task(publish(checked))
    try:
        await _check(files, workers[1:] or workers, run)  # publish has a core too
        run.phase = "publish"
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


async def _check(
    files: Sequence[SqlFile], workers: Sequence[AsyncConnection], run: Run
) -> None:
    """Run all checks, as many at once as there are workers.

    Raises CheckFault with the words of the first, in the order of the files.
    """
    outcomes: dict[str, Step | DataFault] = {}
    waiting = iter(files)

    async def work(worker: AsyncConnection) -> None:
        for file in waiting:
            run.sql_file = file.path
            try:
                outcomes[file.path] = await run_file(
                    *(file, worker, [worker], run.warnings.append), run.overrides
                )
            except DataFault as fault:
                outcomes[file.path] = fault

    await all_together(work(worker) for worker in workers)
    faults = {path: it for path, it in outcomes.items() if isinstance(it, DataFault)}
    if faults:
        raise CheckFault(str(faults[min(faults)]), faults.keys())
    run.steps += [it for _, it in sorted(outcomes.items()) if isinstance(it, Step)]


def _files(settings: Settings) -> list[list[SqlFile]]:
    """The files of ``clean``, ``build`` and ``check``, as they are now."""
    folders = ("clean", "build", "check")
    try:
        files = read_pipeline(settings.sql_dir, folders)
    except SqlFileError as error:
        raise ServiceFault(str(error)) from None
    return [files[folder] for folder in folders]


def _not_loaded(data_dir: Path, streams: Sequence[Stream]) -> list[str]:
    """A word on each CSV file that has no table."""
    names = {stream.file.file for stream in streams}
    return [
        f"{path.name}: there is no table staging.{path.stem}: not loaded"
        for path in sorted(data_dir.glob("*.csv"))
        if path.name not in names
    ]
