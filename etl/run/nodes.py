"""Loading through the nodes of Citus that hold the rows: each splits its blocks by
itself, which spares the coordinator most of the work.

Knows how a block gets to a node, and how loaders of a dead run are kept out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.conninfo import make_conninfo

from etl.csvfiles.blocks import Block
from etl.errors import Interrupted, ServiceFault
from etl.postgres.pools import RUN_SETTINGS, configure
from etl.postgres.shares import POOL_WAIT_SECONDS
from etl.postgres.sqlerrors import one_line
from etl.postgres.transactions import local, transaction
from etl.run.copying import CopyBlock, copy_block
from etl.run.streams import Stream

#: The name of a loader's session; etl.admit_loaders terminates those of a dead run. Its
#: node sends rows to each other one on one connection, which stays open: of several,
#: Citus opens all but one again for each block.
SETTINGS = {
    **RUN_SETTINGS,
    "application_name": "features-etl load",
    "citus.max_adaptive_executor_pool_size": "1",
}

#: Bounds the wait for what a loader of a dead run has locked on a node: lock_timeout
#: does not.
ADMIT_SETTINGS = {"statement_timeout": "60s"}

#: Begins the transaction of a block. While it is open, no later run can begin to load.
ADMITTED = sql.SQL("select 1 from etl.loading where run_id = {} for share")


async def admit_loaders(lead: AsyncConnection, run_id: int) -> None:
    """Keep the loaders of all runs but this one out of distributed tables."""
    async with transaction(lead, local(ADMIT_SETTINGS)):
        await lead.execute("select etl.admit_loaders(%s)", [run_id])


@asynccontextmanager
async def open_nodes(
    lead: AsyncConnection, run_id: int, distributed: Collection[str], loaders: int
) -> AsyncIterator[CopyBlock]:
    """Connections to all nodes that hold rows, and as many as there are ``loaders``.

    Gives what copies blocks of the ``distributed`` sources through them, in turn; those
    of the others, and appended records, which are few, as on plain Postgres. Raises
    ServiceFault where there is no node, or one cannot be reached.
    """
    rows = await lead.execute("select host, port from etl.shard_nodes()")
    nodes = await rows.fetchall()
    if not nodes:
        raise ServiceFault(
            "Citus has no active node that holds rows and knows the tables, to load"
            " through it: LOAD_THROUGH=coordinator does without"
        )
    free: asyncio.Queue[AsyncConnection] = asyncio.Queue()

    async def copy_through_node(
        worker: AsyncConnection, stream: Stream, block: Block
    ) -> int:
        """As ``copy_block``; but then the records are in their table, whatever becomes
        of the transaction of ``worker``.
        """
        is_here = stream.source not in distributed or stream.is_apart
        if is_here or not block.regular:
            return await copy_block(worker, stream, block)
        node = await free.get()
        try:
            async with transaction(node, ADMITTED.format(run_id)) as admitted:
                if not admitted.rowcount:
                    raise Interrupted("another run has begun to load")
                return await copy_block(node, stream, block)
        finally:
            free.put_nowait(node)

    async with AsyncExitStack() as stack:
        for number in range(max(loaders, len(nodes))):
            connection = await _connect(lead, *nodes[number % len(nodes)])
            free.put_nowait(await stack.enter_async_context(connection))
        yield copy_through_node


async def _connect(lead: AsyncConnection, host: str, port: int) -> AsyncConnection:
    """A connection to the database of ``lead``, as its user, on a node."""
    conninfo = make_conninfo(
        lead.info.dsn,
        host=host,
        # Not the address that psycopg has found for the coordinator; None keeps it.
        hostaddr="",
        port=port,
        password=lead.info.password or None,
        connect_timeout=POOL_WAIT_SECONDS,
    )
    try:
        connection = await AsyncConnection.connect(conninfo, autocommit=True)
    except psycopg.OperationalError as error:
        raise ServiceFault(
            f"the node {host}:{port} of Citus cannot be reached to load through it "
            f"({one_line(error)}): LOAD_THROUGH=coordinator does without"
        ) from error
    await configure(connection, SETTINGS)
    return connection
