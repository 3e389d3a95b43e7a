"""The files that the pipeline expects: their columns, and the folder that has them.

Knows no file by name: each table of staging has one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web

from etl.api.app_keys import SETTINGS, records_connection
from etl.csvfiles.folder import CsvFolder, StoredFile
from etl.errors import RequestError, truncated
from etl.http.quotas import Quota

#: Threads that wait for the disk on behalf of these requests; runs have others.
THREADS = 4

#: Uploads at once: each may fill the disk a little more. Half are for one client: more
#: than the six that a browser sends at once of the files that are dropped on the page.
MAX_UPLOADS = 16

Result = TypeVar("Result")


@dataclass(frozen=True)
class ExpectedFile:
    """A file that a table of staging has, and the columns of that table."""

    name: str
    columns: Sequence[dict[str, Any]]

    @property
    def known(self) -> list[str]:
        """The names of the columns."""
        return [column["name"] for column in self.columns]

    def describe(self, stored: StoredFile | None) -> dict[str, Any]:
        """The file as ``/files`` gives it."""
        return {
            "file": self.name,
            "columns": self.columns,
            "bytes": stored and stored.bytes,
            "sha256": stored and stored.sha256,
            "modified": stored and stored.modified.isoformat(),
        }


class Files:
    """The folder, and the threads and uploads that it may have at once."""

    def __init__(self, folder: CsvFolder) -> None:
        self.folder = folder
        self.uploads = Quota(MAX_UPLOADS, "uploads")
        self._threads = ThreadPoolExecutor(THREADS, "files")

    async def do(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Do it in a thread, which continues if the caller is cancelled."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, work, *arguments)

    def close(self) -> None:
        """Begin no more work, and let that in progress end soon."""
        self.folder.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


FILES = web.AppKey("files", Files)


async def open_files(app: web.Application) -> AsyncIterator[None]:
    """The files of an application, for as long as that lives."""
    app[FILES] = Files(CsvFolder(app[SETTINGS].data_dir))
    if app[SETTINGS].uploads:
        await app[FILES].do(app[FILES].folder.remove_leftovers)
    yield
    app[FILES].close()


async def expected_files(request: web.Request) -> list[ExpectedFile]:
    async with records_connection(request) as connection:
        rows = await connection.execute(
            "select file, columns from etl.expected_files order by file"
        )
        return [ExpectedFile(*row) for row in await rows.fetchall()]


async def expected_file(request: web.Request) -> ExpectedFile:
    """The file that the path names; 404 with those that there are."""
    name, found = f"{request.match_info['name']}.csv", await expected_files(request)
    for expected in found:
        if expected.name == name:
            return expected
    names = ", ".join(expected.name for expected in found)
    raise RequestError(f"the pipeline has no file {truncated(name)}, but {names}", 404)
