"""Sends a run's events to one who listens, whatever that one does meanwhile."""

from __future__ import annotations

import asyncio

from aiohttp import ClientConnectionResetError, web

from etl.http.problems import problem
from etl.run.events import Event, Events, Listener
from etl.run.records import Run, RunSummary

#: Seconds of silence after which a listener hears that the connection lives: less than
#: the minute after which proxies give one up.
HEARTBEAT_SECONDS = 15.0

#: Seconds that a listener may take for one event before its connection is closed.
STALLED_SECONDS = 60.0

#: Listeners at once: each has an open file, and a process often may have 1024.
MOST_LISTENERS = 800

#: Milliseconds after which an EventSource comes back when its connection is lost.
RETRY_MILLISECONDS = 2000

#: Nothing that stands between is to keep events, for later or for somebody else.
HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}

HEARTBEAT = Event(b":\n\n")


async def send_events(
    request: web.Request, events: Events, record: RunSummary, run: Run | None
) -> web.StreamResponse:
    """Answer with the events of a run until it is over; to HEAD without any."""
    if events.listeners >= MOST_LISTENERS:
        return problem(503, f"{MOST_LISTENERS} clients listen already")
    response = web.StreamResponse(headers=HEADERS)
    response.force_close()
    if request.method == "HEAD":
        return response
    with events.listen(record, run) as listener:
        try:
            await response.prepare(request)
            if request.transport is not None:
                # What a write leaves here is what the listener has no room for.
                request.transport.set_write_buffer_limits(high=0)
            await _send(response, listener)
        except (ClientConnectionResetError, TimeoutError):
            # To leave, or to stop reading, is how most listeners end: no error of ours.
            if request.transport is not None:
                request.transport.abort()
    return response


async def _send(response: web.StreamResponse, listener: Listener) -> None:
    await response.write(b"retry: %d\n" % RETRY_MILLISECONDS)
    event = HEARTBEAT
    while not event.is_last:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                event = await listener.get()
        except TimeoutError:
            event = HEARTBEAT
        async with asyncio.timeout(STALLED_SECONDS):
            await response.write(event.text)
    async with asyncio.timeout(STALLED_SECONDS):
        await response.write_eof()
