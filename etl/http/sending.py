"""Sends a stream of rows as an answer, whatever its client does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import psycopg
from aiohttp import web
from psycopg import AsyncConnection, pq

from etl.http.problems import TooSlow, problem
from etl.postgres.database import READERS_MOST, Database

#: Seconds that a client may take for one chunk before its connection is closed, and
#: that Postgres may take for one before the answer breaks off.
STALLED_SECONDS = 60.0

#: Seconds that one stream may last: as long as its snapshot, which keeps a vacuum from
#: clearing away what was replaced since.
STREAM_SECONDS = 3600.0

#: Seconds between looks whether a client that gets nothing yet is still there.
WATCH_SECONDS = 0.5

#: Seconds that a server may take to end a statement nobody waits for any more.
CANCEL_SECONDS = 2.0

#: Readers of many rows at once: a slow one keeps its connection for long, and the
#: others must find one.
MOST_STREAMS = READERS_MOST - 4

#: Held while rows are sent.
STREAMS = web.AppKey("streams", asyncio.Semaphore)


#: Sets the headers of a response and returns the chunks of its body.
OpenRows = Callable[
    [AsyncConnection, web.StreamResponse], Awaitable[AsyncGenerator[bytes]]
]


async def send_rows(
    request: web.Request, database: Database, open_rows: OpenRows
) -> web.StreamResponse:
    """Answer with what ``open_rows`` opens in one snapshot; to HEAD without the body.

    Raises TooSlow where Postgres has no first chunk in time.
    """
    streams = request.app[STREAMS]
    if streams.locked():
        return problem(503, f"{MOST_STREAMS} clients read many rows already")
    response = web.StreamResponse()
    async with (
        streams,
        database.readers.connection() as connection,
        contextlib.AsyncExitStack() as stack,
    ):
        try:
            async with (
                asyncio.timeout(STREAM_SECONDS) as bound,
                _watched(request, bound),
            ):
                await connection.execute(
                    "begin isolation level repeatable read read only"
                )
                chunks = await open_rows(connection, response)
                await stack.enter_async_context(contextlib.aclosing(chunks))
                await _send(request, response, connection, chunks)
                await connection.execute("commit")
        except BaseException:
            # Where part is out, the transfer breaks off instead of ending as if
            # complete.
            await _abandon(connection)
            if response.prepared and request.transport is not None:
                request.transport.abort()
            raise
    await response.write_eof()
    return response


async def _send(
    request: web.Request,
    response: web.StreamResponse,
    connection: AsyncConnection,
    chunks: AsyncGenerator[bytes],
) -> None:
    if request.method == "HEAD":
        await response.prepare(request)
        return
    # A COPY lasts as long as its reader, so its chunks have bounds instead.
    await connection.execute("set local statement_timeout = 0")
    try:
        async with asyncio.timeout(STALLED_SECONDS):
            chunk = await anext(chunks, b"")  # what fails before it has a status
    except TimeoutError:
        raise TooSlow from None
    await response.prepare(request)
    while chunk:
        async with asyncio.timeout(STALLED_SECONDS):
            await response.write(chunk)
        async with asyncio.timeout(STALLED_SECONDS):
            chunk = await anext(chunks, b"")


@contextlib.asynccontextmanager
async def _watched(request: web.Request, bound: asyncio.Timeout) -> AsyncIterator[None]:
    """End what is in here once the client has left, even while it gets nothing yet."""

    async def watch() -> None:
        while request.transport is not None:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(WATCH_SECONDS)
        bound.reschedule(0)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


async def _abandon(connection: AsyncConnection) -> None:
    """End what a connection does, and keep it only where it does nothing.

    Only closing ends a COPY whose reader is slow or gone, and only cancelling a
    statement that sends nothing yet.
    """
    with contextlib.suppress(psycopg.Error):
        status = connection.info.transaction_status
        if status == pq.TransactionStatus.ACTIVE:
            await connection.cancel_safe(timeout=CANCEL_SECONDS)
            await connection.close()
        elif status != pq.TransactionStatus.IDLE:
            await connection.execute("rollback")
