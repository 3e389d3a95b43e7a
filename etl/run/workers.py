"""The connections that work for a run beside the one that leads it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from psycopg import AsyncConnection

from etl.errors import all_together
from etl.postgres.pools import Pool


@asynccontextmanager
async def attached_workers(
    pool: Pool, run_id: int, count: int
) -> AsyncIterator[list[AsyncConnection]]:
    """So many connections while in here; they are terminated where the run dies."""
    workers: list[AsyncConnection] = []
    async with AsyncExitStack() as stack:

        async def attach() -> None:
            worker = await stack.enter_async_context(pool.connection())
            await worker.execute("select etl.join_run(%s)", [run_id])
            workers.append(worker)

        await all_together(attach() for _ in range(count))
        yield workers
