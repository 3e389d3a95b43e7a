"""The phases of a run up to publish: load, clean, build, check.

Knows their order and what a file of each may do, and nothing of what the files say.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from psycopg import AsyncConnection

from etl.blocks import block_bytes
from etl.errors import DataFault, ServiceFault, all_together
from etl.load import load_files
from etl.records import Run, note
from etl.rejects import reject_found
from etl.settings import Settings
from etl.sqlfiles import SqlFile, SqlFileError, read_folder
from etl.steps import Step, run_file
from etl.streams import Stream, open_streams

log = logging.getLogger(__name__)


async def run_phases(
    run: Run,
    settings: Settings,
    lead: AsyncConnection,
    workers: Sequence[AsyncConnection],
) -> None:
    """From the files to rows that may be published. Raises RunFault."""
    builders = workers[: settings.build_workers]
    await enter(run, lead, "load")
    await lead.execute("select etl.empty_staging()")
    with ExitStack() as files:
        streams = await open_streams(
            *(lead, settings.data_dir, block_bytes(settings.load_workers)),
            *(run.warnings.append, files),
        )
        run.warnings += _not_loaded(settings.data_dir, streams)
        run.bytes_to_load = sum(stream.reader.size for stream in streams)
        loaders = workers[: settings.load_workers]
        limit = settings.max_rejects
        await load_files(loaders, run.id, streams, limit, run.files.append)

        async def clean() -> int:
            """Reject what breaks a rule; the number of records."""
            await enter(run, lead, "clean")
            rejected = 0
            for file in _files(settings, "clean"):
                step = await run_file(file, lead, builders, run.warnings.append)
                rows = await reject_found(lead, workers, run.id, streams, limit)
                run.steps.append(replace(step, rows=rows or step.rows))
                rejected += rows
            return rejected

        async def build() -> None:
            await enter(run, lead, "build")
            for file in _files(settings, "build"):
                step = await run_file(file, lead, builders, run.warnings.append)
                run.steps.append(step)

        await clean()
        try:
            await build()
        except DataFault as fault:
            # A value looked plain and is not: the rules look at every record, then.
            log.warning("run %d: %s: cleaning thoroughly", run.id, fault)
            await lead.execute("select etl.doubt_all()")
            if not await clean():
                raise
            await build()
    await enter(run, lead, "check")
    run.steps += await _check(_files(settings, "check"), builders, run)


async def enter(run: Run, lead: AsyncConnection, phase: str) -> None:
    """Put on record that a phase begins."""
    run.phase = phase
    run.record = await note(lead, run)


async def _check(
    files: Sequence[SqlFile], workers: Sequence[AsyncConnection], run: Run
) -> list[Step]:
    """Run all checks, as many at once as there are workers, in the order of files.

    Raises the fault of the first that has one.
    """
    outcomes: dict[str, Step | DataFault] = {}
    waiting = iter(files)

    async def work(worker: AsyncConnection) -> None:
        for file in waiting:
            try:
                step = await run_file(file, worker, [worker], run.warnings.append)
                outcomes[file.name] = step
            except DataFault as fault:
                outcomes[file.name] = fault

    await all_together(work(worker) for worker in workers)
    steps = []
    for _, outcome in sorted(outcomes.items()):
        if isinstance(outcome, DataFault):
            raise outcome
        steps.append(outcome)
    return steps


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
