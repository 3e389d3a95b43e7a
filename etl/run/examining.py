"""Examines what was loaded, before rules run: collects statistics for the planner, and
says which rules are suspected to find something.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

from psycopg import AsyncConnection, sql

from etl.postgres.transactions import transaction
from etl.run.kept import Kept
from etl.run.steps import Job, run_jobs
from etl.run.streams import Stream
from etl.sqlfiles import Rule

#: Bytes of each file up to which the planner does without statistics, and a duplicate
#: is left to a check. Where one is larger, small files count too: without statistics of
#: both its tables, a join may be planned that takes minutes.
BYTES_WITHOUT_STATISTICS = 100_000

#: Citus samples each shard as if it were a table: a tenth of the usual sample is enough
#: of each. A setting reaches the nodes by "set local" alone.
SAMPLE_LESS = sql.SQL(
    "set local citus.propagate_set_commands = 'local';"
    " set local default_statistics_target = 10"
)


async def examine(
    workers: Sequence[AsyncConnection],
    streams: Collection[Stream],
    rules: Sequence[Rule],
    kept: Kept,
) -> set[str]:
    """The rules whose column surely has duplicates, and those that last rejected
    something, by their paths. Large files get statistics for the planner meanwhile.
    """
    suspected = {path for path, result in kept.results.items() if result.rows}

    async def analyze(source: str, worker: AsyncConnection) -> None:
        statement = sql.SQL("analyze {}").format(sql.Identifier("staging", source))
        if source in kept.distributed:
            async with transaction(worker, SAMPLE_LESS):
                await worker.execute(statement)
        else:
            await worker.execute(statement)

    async def suspect(rule: Rule, worker: AsyncConnection) -> None:
        row = await worker.execute(
            "select etl.has_duplicates(%s, %s)", [rule.source, rule.at_fault[0]]
        )
        if await row.fetchone() == (True,):
            suspected.add(rule.file.path)

    largest_first = sorted(streams, key=lambda each: -each.file.bytes)
    if not largest_first or largest_first[0].file.bytes <= BYTES_WITHOUT_STATISTICS:
        return suspected
    jobs: list[Job] = []
    for stream in largest_first:
        if not (stream.is_mostly_new or stream.source in kept.unanalyzed):
            continue
        jobs += [
            partial(suspect, rule)
            for rule in rules
            if rule.source == stream.source
            and rule.verified_by
            and rule.keeps_first
            and len(rule.at_fault) == 1
        ]
        jobs.append(partial(analyze, stream.source))
    await run_jobs(workers, jobs)
    return suspected
