"""A run from the files to the table: what has changed is loaded, and then the SQL files
of the pipeline run. Where nothing has, the run is the last one again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection, sql

from etl.csvfiles.blocks import block_bytes
from etl.postgres.pools import Pool
from etl.run.copying import copy_block
from etl.run.kept import Kept, compare_files, digest, keep_loads, read_kept, save_loads
from etl.run.load import load_files
from etl.run.nodes import admit_loaders, open_nodes
from etl.run.pipeline import Pipeline
from etl.run.publishing import succeed
from etl.run.records import Run
from etl.run.steps import Step
from etl.run.streams import LoadedFile, Stream, open_streams
from etl.run.versions import depends_on_more
from etl.settings import Settings
from etl.sqlfiles import SqlFile, read_pipeline


async def run_phases(
    run: Run, settings: Settings, lead: AsyncConnection, runners: Pool
) -> None:
    """All phases, from the files to published rows, on the leader and on workers, which
    are ``runners`` too. Raises RunFault.

    If the leader dies, the next run begins with the termination of the workers.
    """
    folders = ("clean", "build", "check")
    reading = asyncio.create_task(
        asyncio.to_thread(read_pipeline, settings.sql_dir, folders)
    )
    kept = await read_kept(lead, is_full=run.is_full)
    pipeline_files = await reading
    async with AsyncExitStack() as stack:
        block_size = block_bytes(settings.load_workers)
        streams = await open_streams(kept.columns, settings.data_dir, block_size, stack)
        for stream in streams:
            run.warnings += stream.column_warnings()
        run.warnings += _not_loaded(settings.data_dir, streams)
        builds = pipeline_files["build"]
        await compare_files(streams, kept, builds)
        warnings = list(run.warnings)

        def state() -> str | None:
            return _state(settings, kept, streams, pipeline_files, warnings, run)

        is_kept = all(stream.file.load == "kept" for stream in streams)
        if kept.last and is_kept and kept.last["state"] == state():
            await _repeat(run, lead, kept.last)
            return
        if kept.last:  # should this run fail, staging is not what that one has left
            await lead.execute("delete from etl.last_state")
        run.bytes_to_load = sum(stream.opened.size for stream in streams)
        workers = []
        for number in range(max(settings.load_workers, settings.build_workers)):
            worker = await stack.enter_async_context(runners.connection())
            await worker.execute(
                "select etl.attach_worker(%s, %s, %s)",
                [run.id, number, settings.build_workers],
            )
            workers.append(worker)
        if kept.distributed:
            await admit_loaders(lead, run.id)
        await keep_loads(lead, run.id, streams)
        try:
            await _load(run, settings, lead, workers, streams, kept)
        finally:
            for stream in streams:
                run.warnings += stream.value_warnings()
        await save_loads(lead, run.id, kept.engine, streams, builds)
        pipeline = Pipeline(run, settings, lead, workers, streams, kept, pipeline_files)
        is_same = await pipeline.run_to_completion()
        if is_same and not run.dry and (found := state()):
            # Only now have checks seen features as the next run will find it.
            await lead.execute(
                "insert into etl.last_state (run_id, state) values (%s, %s)",
                [run.id, found],
            )


async def _load(
    run: Run,
    settings: Settings,
    lead: AsyncConnection,
    workers: Sequence[AsyncConnection],
    streams: Sequence[Stream],
    kept: Kept,
) -> None:
    """Load the files, through the nodes of Citus where there are any."""
    loaders = workers[: settings.load_workers]
    load = partial(load_files, loaders, run, streams, settings.max_rejects)
    if not kept.distributed or settings.load_through == "coordinator":
        await load(copy_block)
        return
    async with open_nodes(lead, run.id, kept.distributed, len(loaders)) as copy:
        await load(copy)


def _state(
    settings: Settings,
    kept: Kept,
    streams: Sequence[Stream],
    pipeline_files: dict[str, list[SqlFile]],
    warnings: Sequence[str],
    run: Run,
) -> str | None:
    """All that the outcome of a run depends on, as a digest; None where that is more
    than files and SQL. The files must be hashed, or loaded.
    """
    files = [file for folder in pipeline_files.values() for file in folder]
    if any(depends_on_more(file, kept) for file in files):
        return None
    return digest(
        kept.engine,
        kept.published,
        [(file.path, file.sha256) for file in files],
        [(stream.source, stream.opened.sha256) for stream in streams],
        warnings,
        run.allow_empty,
        str(settings.max_rejects),
    )


async def _repeat(run: Run, lead: AsyncConnection, last: Mapping[str, Any]) -> None:
    """Succeed as the last run did, since nothing has changed."""
    for given in last["files"]:
        size = given["bytes"]
        file = LoadedFile(given["file"], size, given["header"], bytes=size)
        file.sha256, file.load = given["sha256"], "kept"
        file.records = file.records_kept = given["records"]
        file.rejected = file.counted = given["rejected"]
        file.rejected_by_reason = given["rejected_by_reason"]
        run.files.append(file)
    run.steps += [
        Step(step["file"], step["sha256"], step["rows"], kept=True)
        for step in last["steps"]
    ]
    run.warnings[:] = last["warnings"]
    run.unchanged = True
    await succeed(run, lead, sql.SQL("select etl.repeat_last_run({})").format(run.id))


def _not_loaded(data_dir: Path, streams: Sequence[Stream]) -> list[str]:
    """A warning for each CSV file that has no table."""
    names = {stream.file.file for stream in streams}
    return [
        f"{path.name}: there is no table staging.{path.stem}: not loaded"
        for path in sorted(data_dir.glob("*.csv"))
        if path.name not in names
    ]
