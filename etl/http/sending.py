"""Sends a stream of rows as an answer, whatever its client does meanwhile.

Handlers are cancelled when their client disconnects (see ``create_runner``).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from math import inf

import psycopg
from aiohttp import web
from psycopg import AsyncConnection, pq

from etl.http.addresses import client_address
from etl.http.problems import TooSlow
from etl.http.streams import STREAMS, Stream
from etl.postgres.database import Database

#: Seconds that a client may take for one chunk before its connection is closed, and
#: Postgres for one before the answer breaks off.
STALLED_SECONDS = 60.0

#: Seconds that one stream may last: as long as its snapshot, which keeps vacuum from
#: removing rows that were replaced since.
STREAM_SECONDS = 3600.0

#: Seconds that a server may take to cancel a statement whose client has left.
CANCEL_SECONDS = 2.0

#: Bytes that the kernel holds beyond those on their way to the client. By itself it
#: holds megabytes, and takes the next ones when a third of them is gone: at 50 KB/s
#: that is half a minute, in which a client would seem to read nothing.
MAX_UNSENT_BYTES = 1 << 17


#: Sets the headers of a response and returns the chunks of its body.
OpenRows = Callable[
    [AsyncConnection, web.StreamResponse], Awaitable[AsyncGenerator[bytes]]
]


async def send_rows(
    request: web.Request, database: Database, open_rows: OpenRows
) -> web.StreamResponse:
    """Answer with what ``open_rows`` opens in one snapshot; to HEAD without the body.

    Raises TooSlow where Postgres has no first chunk in time, and TooManyStreams.
    """
    response = web.StreamResponse()
    async with contextlib.AsyncExitStack() as stack:
        streaming = request.app[STREAMS].begin(client_address(request))
        stream = stack.enter_context(streaming)
        connection = await stack.enter_async_context(database.readers.connection())
        try:
            async with asyncio.timeout(STREAM_SECONDS):
                await connection.execute(
                    "begin isolation level repeatable read read only"
                )
                chunks = await open_rows(connection, response)
                await stack.enter_async_context(contextlib.aclosing(chunks))
                await _send(request, response, connection, chunks, stream)
                await connection.execute("commit")
        except BaseException:
            await _abandon(connection)
            # An answer that has begun must not end as if it were complete.
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
    stream: Stream,
) -> None:
    if request.method == "HEAD":
        await response.prepare(request)
        return
    # A COPY lasts as long as its client reads, so there are bounds for chunks instead.
    await connection.execute("set local statement_timeout = 0")
    try:
        async with asyncio.timeout(STALLED_SECONDS):
            chunk = await anext(chunks, b"")  # an error before it has a status
    except TimeoutError:
        raise TooSlow from None
    await response.prepare(request)
    if request.transport is not None:
        link = request.transport.get_extra_info("socket")
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)
    clock = asyncio.get_running_loop().time
    while chunk:
        stream.taking_since = clock()
        async with asyncio.timeout(STALLED_SECONDS):
            await response.write(chunk)
        stream.taking_since = inf
        async with asyncio.timeout(STALLED_SECONDS):
            chunk = await anext(chunks, b"")


async def _abandon(connection: AsyncConnection) -> None:
    """Cancel what a connection does, and close it where it did something.

    Only closing ends a COPY whose client is slow or has left, and only cancelling ends
    a statement that has sent nothing yet.
    """
    with contextlib.suppress(psycopg.Error):
        status = connection.info.transaction_status
        if status == pq.TransactionStatus.ACTIVE:
            await connection.cancel_safe(timeout=CANCEL_SECONDS)
            await connection.close()
        elif status != pq.TransactionStatus.IDLE:
            await connection.execute("rollback")
