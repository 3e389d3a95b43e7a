"""The phases of a run: load, clean, build, check and publish.

Knows their order and what a file of each may do, and nothing of what the files say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from psycopg import AsyncConnection

from etl.blocks import block_bytes
from etl.errors import DataFault, ServiceFault, all_together
from etl.load import load_files
from etl.records import Run, note, value_of
from etl.rejects import reject_found
from etl.settings import Settings
from etl.sqlfiles import SqlFile, SqlFileError, read_folder
from etl.steps import Step, run_file
from etl.streams import Stream, open_streams

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
    """A rule that a check proves is first left alone, if the run before was clean.

    Where a check or the build then fails, every rule is looked at, and what broke one
    is rejected before they run again.
    """
    builders = workers[: settings.build_workers]
    warn = run.warnings.append
    limit = settings.max_rejects
    await enter(run, lead, "load")
    await lead.execute("select etl.empty_staging()")
    with ExitStack() as files:
        streams = await open_streams(
            *(lead, settings.data_dir, block_bytes(settings.load_workers)),
            *(warn, files),
            strict=strict,
        )
        run.warnings += _not_loaded(settings.data_dir, streams)
        run.bytes_to_load = sum(stream.opened.size for stream in streams)
        loaders = workers[: settings.load_workers]
        await load_files(loaders, run.id, streams, limit, run.files.append)

        async def clean(rules: Sequence[SqlFile]) -> int:
            """Reject what breaks one of these rules; the number of records."""
            await enter(run, lead, "clean")
            rejected = 0
            for rule in rules:
                run.sql_file = rule.path
                step = await run_file(rule, lead, builders, warn)
                rows = await reject_found(lead, workers, run.id, streams, limit)
                run.steps.append(replace(step, rows=rows or step.rows))
                rejected += rows
            return rejected

        async def build_and_publish() -> None:
            await enter(run, lead, "build")
            for file in _files(settings, "build"):
                run.sql_file = file.path
                run.steps.append(await run_file(file, lead, builders, warn))
            await enter(run, lead, "check")
            await _check_and_publish(_files(settings, "check"), builders, run, publish)

        rules = _files(settings, "clean")
        trusting = await value_of(lead, "select etl.last_run_was_clean(%s)", run.id)
        await clean([rule for rule in rules if not (trusting and rule.proof)])
        warnings = list(run.warnings)
        try:
            await build_and_publish()
        except DataFault as fault:
            failed_in = run.phase
            if failed_in == "build" and any(each.forms.may_hide for each in streams):
                raise _Doubt(str(fault)) from fault
            log.info("run %d: looks at every rule after: %s", run.id, fault)
            if not await clean(rules):
                run.phase = failed_in
                raise
            run.warnings[:] = warnings
            await lead.execute("truncate features_next")
            await build_and_publish()


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

    Raises the fault of the first, in the order of the files, that has one.
    """
    outcomes: dict[str, Step | DataFault] = {}
    waiting = iter(files)

    async def work(worker: AsyncConnection) -> None:
        for file in waiting:
            run.sql_file = file.path
            try:
                step = await run_file(file, worker, [worker], run.warnings.append)
                outcomes[file.name] = step
            except DataFault as fault:
                outcomes[file.name] = fault

    await all_together(work(worker) for worker in workers)
    for _, outcome in sorted(outcomes.items()):
        if isinstance(outcome, DataFault):
            raise outcome
        run.steps.append(outcome)


def _files(settings: Settings, phase: str) -> list[SqlFile]:
    try:
        return read_folder(settings.sql_dir / phase)
    except SqlFileError as error:
        raise ServiceFault(str(error)) from None


def _not_loaded(data_dir: Path, streams: Sequence[Stream]) -> list[str]:
    """A word on each CSV file that has no table."""
    names = {stream.file.file for stream in streams}
    return [
        f"{path.name}: there is no table staging.{path.stem}: not loaded"
        for path in sorted(data_dir.glob("*.csv"))
        if path.name not in names
    ]
