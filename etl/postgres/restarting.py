"""Watches the embedded Postgres: starts it again where it ends, and fits its settings.

Knows when to do so, and how often; how it is done stands in ``embedded``.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from etl.postgres import embedded
from etl.postgres.embedded import Cluster
from etl.postgres.process import EmbeddedError, is_running

#: Seconds between two checks whether the server runs.
CHECK_SECONDS = 1.0

#: Seconds before each try to start it again; after the last one nobody tries any more.
#: Long enough for a statement of a killed server to end, short enough for a person.
PAUSES = (0, 1, 2, 4, 8, 15, 30, 30, 30, 30)

#: Seconds that a server must have run for the tries to be counted from 0 again: longer
#: than one runs that ends as soon as it is used, which is not started for ever.
STABLE_SECONDS = 10

#: Bytes by which the free space of the disk changes before settings are fitted again.
#: To ask for it costs nothing; to add up the sizes of all files takes milliseconds.
FIT_BYTES = 32 << 20

log = logging.getLogger(__name__)


@asynccontextmanager
async def kept_running(
    cluster: Cluster, pauses: Sequence[float] = PAUSES
) -> AsyncIterator[None]:
    """While in here, a server that ends is started again, with bounded tries, and its
    settings follow the size of its data and of its disk.
    """
    watching = asyncio.create_task(_keep_running(cluster, pauses))
    try:
        yield
    finally:
        # A thread that starts it right now goes on; embedded.stop() waits for it.
        watching.cancel()
        await asyncio.wait([watching])


async def _keep_running(cluster: Cluster, pauses: Sequence[float]) -> None:
    clock = asyncio.get_running_loop().time
    tries, started_at = 0, clock()
    free = shutil.disk_usage(cluster.data).free
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        if is_running(cluster.data):
            before, free = free, shutil.disk_usage(cluster.data).free
            if abs(free - before) < FIT_BYTES:
                free = before
            else:
                await _fit(cluster)
            if clock() - started_at > STABLE_SECONDS:
                tries = 0
            continue
        if tries == len(pauses):
            log.error(
                "the embedded Postgres has ended, and %d tries to start it again did "
                "not help: see %s, then restart the service",
                *(tries, cluster.data.parent / "log"),
            )
            return
        await asyncio.sleep(pauses[tries])
        tries += 1
        log.warning(
            "the embedded Postgres has ended: starting it again (try %d of %d)",
            *(tries, len(pauses)),
        )
        started_at = clock()
        try:
            await asyncio.to_thread(embedded.restart, cluster)
        except (EmbeddedError, OSError) as error:
            log.error("the embedded Postgres: %s", error)
        else:
            log.warning("the embedded Postgres is started again")


async def _fit(cluster: Cluster) -> None:
    try:
        await asyncio.to_thread(embedded.fit, cluster)
    except (EmbeddedError, OSError) as error:
        log.warning("the settings of the embedded Postgres are as before: %s", error)
