"""Sends a stream of rows as an answer, whatever its client does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping

from aiohttp import web
from psycopg import AsyncConnection

from etl.database import READERS_MOST, Database
from etl.problems import problem

#: Seconds that a client may take for one chunk before its connection is closed.
STALLED_SECONDS = 60.0

#: Readers of many rows at once: a slow one keeps its connection for long, and the
#: others must find one.
MOST_STREAMS = READERS_MOST - 4

#: Held while rows are sent.
STREAMS = web.AppKey("streams", asyncio.Semaphore)

Chunks = Callable[[AsyncConnection], AsyncGenerator[bytes]]


async def send_rows(
    request: web.Request, database: Database, headers: Mapping[str, str], chunks: Chunks
) -> web.StreamResponse:
    """Answer with what ``chunks`` reads on a connection, and to HEAD with nothing."""
    response = web.StreamResponse(headers=headers)
    if request.method == "HEAD":
        return response
    streams = request.app[STREAMS]
    if streams.locked():
        return problem(503, f"{MOST_STREAMS} clients read many rows already")
    async with (
        streams,
        database.readers.connection() as connection,
        contextlib.aclosing(chunks(connection)) as rows,
    ):
        try:
            first = await anext(rows)  # what fails before it has a status
            await response.prepare(request)
            await _send(response, first)
            async for chunk in rows:
                await _send(response, chunk)
        except BaseException:
            # Only this ends a COPY whose reader is slow or gone; and where part is
            # out, the transfer breaks off instead of ending as if complete.
            await connection.close()
            if response.prepared and request.transport is not None:
                request.transport.abort()
            raise
    await response.write_eof()
    return response


async def _send(response: web.StreamResponse, chunk: bytes) -> None:
    async with asyncio.timeout(STALLED_SECONDS):
        await response.write(chunk)
