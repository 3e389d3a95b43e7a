"""Uploads that are cut off, meet each other, fill the disk, or are killed."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from tests.support.harm.data import HEADERS
from tests.support.harm.disk import small_disk
from tests.support.harm.report import Report
from tests.support.harm.service import Service, running
from tests.support.processes import SECONDS, until

DISK_MEGABYTES = 16

PATH = "/files/users.csv"


def uploads(folder: Path, rng: Random, times: int, report: Report) -> None:
    """After each of them the file is the old one or a new one, and whole."""
    with (
        small_disk(folder / "data", DISK_MEGABYTES) as is_small,
        running(folder, rng, report) as (service, _),
    ):
        harms = _Uploads(service, folder / "data" / "users.csv", report)
        kinds = [harms.cut_off, harms.two_at_once, harms.killed]
        kinds += [harms.larger_than_the_disk] if is_small else []
        for _ in report.rounds(times):
            kind: Callable[[Random], None] = rng.choice(kinds)
            report.counts[kind.__name__] += 1
            kind(rng)
            harms.check(kind.__name__)


@dataclass
class _Uploads:
    service: Service
    file: Path
    report: Report

    def cut_off(self, rng: Random) -> None:
        """The connection ends before the body does; the old file remains."""
        old, content = self.file.read_bytes(), users(rng)
        with self._begin(len(content)) as connection:
            connection.sendall(content[: rng.randrange(len(content))])
        self._wait_for_unfinished()
        self._require_one_of([old], "cut off")

    def two_at_once(self, rng: Random) -> None:
        """Of two that come whole, one remains, and is whole."""
        contents = [users(rng), users(rng)]
        with ThreadPoolExecutor(2) as threads:
            statuses = list(threads.map(self._put, contents))
        self.report.require(statuses == [200, 200], "both are taken", statuses)
        self._require_one_of(contents, "two at once")

    def larger_than_the_disk(self, rng: Random) -> None:
        old = self.file.read_bytes()
        status = self._put(HEADERS["users"].encode() + bytes(DISK_MEGABYTES << 20))
        self.report.counts[f"larger than the disk: {status}"] += 1
        self.report.require(status in (413, 507, 0), "it is refused", status)
        self._require_one_of([old], "larger than the disk")

    def killed(self, rng: Random) -> None:
        """The service is killed meanwhile: the old file, or the new one."""
        old, content = self.file.read_bytes(), users(rng)
        part = rng.choice([len(content), rng.randrange(len(content))])
        with self._begin(len(content)) as connection:
            connection.sendall(content[:part])
            self.service.end()
        self.service.start()
        self._require_one_of([old, content][: 1 + (part == len(content))], "killed")

    def check(self, kind: str) -> None:
        """Nothing else is left in the folder, and a run reads what is there."""
        self._wait_for_unfinished()
        status, body = self.service.get("/trigger_etl")
        rows = self.service.features().count(b'"user_id"')
        lines = self.file.read_bytes().count(b"@")
        self.report.require(status == 200, "the next run succeeds", kind, body)
        self.report.require(rows == lines, "it has every user", kind, rows, lines)

    def _put(self, content: bytes) -> int:
        """The status of a whole upload; 0 where the connection ended before."""
        url = f"{self.service.url}{PATH}"
        request = urllib.request.Request(url, content, method="PUT")
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except (OSError, HTTPException):
            return 0

    def _begin(self, length: int) -> socket.socket:
        place = urlsplit(self.service.url)
        connection = socket.create_connection((place.hostname, place.port), SECONDS)
        head = f"PUT {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n"
        connection.sendall(f"{head}\r\n".encode())
        return connection

    def _wait_for_unfinished(self) -> None:
        """Until what was written of an upload that broke off is gone."""
        names = {f"{table}.csv" for table in HEADERS}
        with suppress(AssertionError):
            until(lambda: {path.name for path in self.file.parent.iterdir()} == names)
        left = {path.name for path in self.file.parent.iterdir()}
        self.report.require(left == names, "nothing else is left", left)

    def _require_one_of(self, contents: list[bytes], kind: str) -> None:
        is_whole = self.file.read_bytes() in contents
        self.report.require(is_whole, "the file is whole", kind)


def users(rng: Random) -> bytes:
    """The content of another users.csv."""
    version, count = rng.randrange(10**6), rng.randint(200, 40_000)
    lines = (f"{n},U{version},{n}@example.com," for n in range(1, count + 1))
    return "\n".join([HEADERS["users"], *lines, ""]).encode()
