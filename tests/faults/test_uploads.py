"""Uploads that break off, meet each other, a full disk or a kill: a file is whole."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientPayloadError
from psycopg import AsyncConnection

from tests.support.client import Client, StartService, end_of, features, start, trigger
from tests.support.locks import held_up, waits_for_a_lock
from tests.support.processes import SECONDS, answer, get, serving, until

pytestmark = pytest.mark.any_postgres

HEADER = b"user_id,name,email,signup_date\n"
NEW = HEADER + b"1,New,,\n"
PATH = "/files/users.csv"
THREE = ["compounds.csv", "user_experiments.csv", "users.csv"]

CHUNKED = b"Transfer-Encoding: chunked"

MEGABYTE = 1 << 20


def names(data_dir: Path) -> list[str]:
    """All that is in the folder, hidden files included."""
    return sorted(path.name for path in data_dir.iterdir())


def users(count: int, name: str = "Old") -> bytes:
    lines = (f"{number},{name * 20},,\n" for number in range(1, count + 1))
    return HEADER + "".join(lines).encode()


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), SECONDS) as connection:
        yield connection


def head_of(length: int, *headers: str, path: str = PATH) -> bytes:
    lines = [f"PUT {path} HTTP/1.1", "Host: localhost", f"Content-Length: {length}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


def read_answer(connection: socket.socket) -> tuple[int, http.client.HTTPMessage, str]:
    found = http.client.HTTPResponse(connection, method="PUT")
    found.begin()
    return found.status, found.headers, json.loads(found.read())["detail"]


def put(url: str, content: bytes, path: str = PATH) -> tuple[int, str]:
    """The status of an upload, and the detail of its error."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=SECONDS)
    connection.request("PUT", path, content)
    response = connection.getresponse()
    body = json.loads(response.read())
    connection.close()
    return response.status, body.get("detail", "")


@pytest.mark.parametrize("how", ["closed", "reset", "half closed"])
def test_an_upload_that_breaks_off(
    database: str, data_dir: Path, tmp_path: Path, how: str
) -> None:
    """Also one whose part that has come would be a file."""
    old, log = (data_dir / "users.csv").read_bytes(), tmp_path / "log"
    with serving(log, DATABASE_URL=database, DATA_DIR=data_dir) as (_, url):
        with connected(url) as connection:
            connection.sendall(head_of(len(NEW) + 10) + NEW)
            until(lambda: len(names(data_dir)) == 4)
            if how == "reset":
                linger = b"\1\0\0\0\0\0\0\0"
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            elif how == "half closed":
                connection.shutdown(socket.SHUT_WR)
                until(lambda: names(data_dir) == THREE)
        until(lambda: names(data_dir) == THREE)
        assert (data_dir / "users.csv").read_bytes() == old
        assert put(url, NEW)[0] == 200
    assert "ERROR" not in log.read_text()
    assert "Traceback" not in log.read_text()


async def test_an_upload_that_stalls(
    client: Client, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.http.bodies.PART_SECONDS", 0.1)
    old = (data_dir / "users.csv").read_bytes()
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(head_of(1000) + NEW)
    status = await reader.readline()
    assert status == b"HTTP/1.1 408 Request Timeout\r\n"
    rest = await reader.read()  # to the end of the connection
    assert b"the body stalled" in rest
    writer.close()
    assert (data_dir / "users.csv").read_bytes() == old
    assert names(data_dir) == THREE


async def test_of_two_uploads_the_last_that_is_whole_remains(
    client: Client, data_dir: Path
) -> None:
    first, second = users(30_000, "First"), users(20_000, "Second")
    may_end = {name: asyncio.Event() for name in ("first", "second")}

    async def body(content: bytes, name: str) -> AsyncIterator[bytes]:
        yield content[:MEGABYTE]
        await may_end[name].wait()
        yield content[MEGABYTE:]

    async def send(content: bytes, name: str) -> int:
        async with client.put(PATH, data=body(content, name)) as response:
            return response.status

    async with asyncio.TaskGroup() as group:
        one = group.create_task(send(first, "first"))
        other = group.create_task(send(second, "second"))
        while len(names(data_dir)) < 5:
            await asyncio.sleep(0.01)
        may_end["second"].set()
        assert await other == 200
        assert (data_dir / "users.csv").read_bytes() == second
        may_end["first"].set()
        assert await one == 200
    assert (data_dir / "users.csv").read_bytes() == first
    assert names(data_dir) == THREE


async def test_many_uploads_at_once(client: Client, data_dir: Path) -> None:
    """One of them remains, whole; more than are taken get 503."""
    contents = [users(50 * number, f"N{number}") for number in range(1, 7)]

    async def send(content: bytes) -> int:
        async with client.put(PATH, data=content) as response:
            return response.status

    for _ in range(5):
        statuses = await asyncio.gather(*map(send, contents))
        assert set(statuses) == {200}
        assert (data_dir / "users.csv").read_bytes() in contents
    assert names(data_dir) == THREE


async def test_more_uploads_than_are_taken(client: Client, data_dir: Path) -> None:
    writers = []
    for _ in range(8):
        _, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(head_of(1000) + HEADER)
        writers.append(writer)
    while len(names(data_dir)) < 3 + 8:
        await asyncio.sleep(0.01)
    async with client.put(PATH, data=NEW) as response:
        assert response.status == 503
        assert "Retry-After" in response.headers
    assert len(await features(client)) == 0  # others are served
    for writer in writers:
        writer.close()
    while names(data_dir) != THREE:
        await asyncio.sleep(0.01)
    async with client.put(PATH, data=NEW) as response:
        assert response.status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_run_reads_the_file_that_it_has_opened_to_its_end(
    client: Client,
    connection: AsyncConnection,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    """Its blocks, and those that a rule reads again: one user is there twice."""
    monkeypatch.setattr("etl.run.phases.block_bytes", lambda workers: 1 << 16)
    old = users(10_000) + b"1,Twice,,\n"
    (data_dir / "users.csv").write_bytes(old)
    async with held_up(connection):
        number = await start(client)
        await waits_for_a_lock(connection)
        async with client.request(method, PATH, data=NEW) as response:
            assert response.status == (200 if method == "PUT" else 204)
        assert names(data_dir) == (THREE if method == "PUT" else THREE[:2])
    run = await end_of(client, number)
    assert (run["state"], run["error"]) == ("succeeded", None)
    (file,) = (each for each in run["files"] if each["file"] == "users.csv")
    assert (file["bytes"], file["records"], file["rejected"]) == (len(old), 10_001, 1)
    async with client.get(f"/runs/{number}/rejects") as rejected:
        (reject,) = await rejected.json()
    assert (reject["line"], reject["record"]) == (10_002, "1,Twice,,")
    assert len(await features(client)) == 10_000
    if method == "PUT":
        await trigger(client, 422)  # whose users have no experiments now
        async with client.get(PATH) as response:
            assert await response.read() == NEW
    else:
        assert "users.csv: missing" in (await trigger(client, 422))["result"]


async def test_who_reads_a_file_gets_it_whole_while_it_is_replaced(
    client: Client, data_dir: Path
) -> None:
    old = users(200_000)
    (data_dir / "users.csv").write_bytes(old)
    async with client.get(PATH) as response:
        assert response.status == 200
        async with client.put(PATH, data=NEW) as replaced:
            assert replaced.status == 200
        assert await response.read() == old


async def test_a_file_that_is_changed_in_place_is_not_given_as_whole(
    client: Client, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What has come of it ends early."""
    path = data_dir / "users.csv"
    path.write_bytes(users(500_000))
    async with client.get(PATH) as response:
        assert response.status == 200
        path.write_bytes(NEW)
        with pytest.raises(ClientPayloadError):
            await response.read()
    assert "users.csv: was changed while it was read" in caplog.text
    assert "ERROR" not in caplog.text


def test_what_is_too_long_is_refused_before_it_is_read(
    database: str, data_dir: Path
) -> None:
    """A client that asks first sends nothing; one that does not gets the answer too."""
    settings: dict[str, Any] = {
        "DATABASE_URL": database,
        "DATA_DIR": data_dir,
        "MAX_UPLOAD": "1MB",
    }
    with serving(**settings) as (_, url):
        with connected(url) as connection:
            connection.sendall(head_of(2 * MEGABYTE, "Expect: 100-continue"))
            status, headers, detail = read_answer(connection)
            assert (status, headers["Connection"]) == (413, "close")
            assert "MAX_UPLOAD" in detail
        with connected(url) as connection:
            connection.sendall(head_of(100 * MEGABYTE))
            for _ in range(100):
                connection.sendall(bytes(MEGABYTE))
            assert read_answer(connection)[0] == 413
        with connected(url) as connection:  # one that is wanted is asked for
            connection.sendall(head_of(len(NEW), "Expect: 100-continue"))
            assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(NEW)
            assert connection.recv(15) == b"HTTP/1.1 200 OK"


def test_a_large_upload_takes_no_memory(database: str, data_dir: Path) -> None:
    size = 200 * MEGABYTE
    line = b"1,Name,name@example.com,2024-01-01\n"
    content = HEADER + line * ((size - len(HEADER)) // len(line))

    def resident(process: subprocess.Popen[str]) -> int:
        """The most bytes of memory that a process has had."""
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) << 10

    with serving(DATABASE_URL=database, DATA_DIR=data_dir) as (process, url):
        assert put(url, NEW)[0] == 200
        before = resident(process)
        assert put(url, content)[0] == 200
        assert (data_dir / "users.csv").stat().st_size == len(content)
        with connected(url) as connection:
            connection.sendall(f"GET {PATH} HTTP/1.0\r\n\r\n".encode())
            received = 0
            while part := connection.recv(MEGABYTE):
                received += len(part)
        assert received > len(content)
        assert resident(process) - before < 30 * MEGABYTE


def test_a_kill_leaves_the_old_file_and_a_start_removes_the_rest(
    database: str, data_dir: Path
) -> None:
    old = (data_dir / "users.csv").read_bytes()
    settings: dict[str, Any] = {"DATABASE_URL": database, "DATA_DIR": data_dir}
    with serving(**settings) as (other, url):
        with serving(**settings) as (process, killed), connected(killed) as connection:
            connection.sendall(head_of(MEGABYTE) + NEW)
            until(lambda: len(names(data_dir)) == 4)
            process.send_signal(signal.SIGKILL)
            process.wait(SECONDS)
        (left,) = set(names(data_dir)) - set(THREE)
        other_left = data_dir / f"{left[:-12]}0000.partial"
        os.mkfifo(other_left)  # nor is a start held up by what others put there
        assert (left[0], left.endswith(".csv")) == (".", False)
        assert (data_dir / "users.csv").read_bytes() == old
        run = get(f"{url}/trigger_etl")["run"]
        assert (run["warnings"], len(run["files"])) == ([], 3)
        # An upload of another server that lives is none of it.
        with connected(url) as connection:
            connection.sendall(head_of(len(NEW)) + HEADER)
            until(lambda: len(names(data_dir)) == 6)
            with serving(**settings):
                assert len(names(data_dir)) == 4
                assert left not in names(data_dir)
            connection.sendall(NEW[len(HEADER) :])
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
        assert names(data_dir) == THREE
        assert (data_dir / "users.csv").read_bytes() == NEW
        assert other.poll() is None


def test_a_stop_during_an_upload(database: str, data_dir: Path) -> None:
    old = (data_dir / "users.csv").read_bytes()
    with (
        serving(DATABASE_URL=database, DATA_DIR=data_dir) as (process, url),
        connected(url) as connection,
    ):
        connection.sendall(head_of(MEGABYTE) + NEW)
        until(lambda: len(names(data_dir)) == 4)
        process.terminate()
        assert process.wait(SECONDS) == 0
    assert names(data_dir) == THREE
    assert (data_dir / "users.csv").read_bytes() == old


@pytest.fixture
def small_disk(data_dir: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder with the data on a disk of 8 MB, in memory."""
    folder = tmp_path / f"disk-{time.monotonic_ns()}"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("only root may mount a file system, and not in every container")
    shutil.copytree(data_dir, folder, dirs_exist_ok=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk(database: str, small_disk: Path) -> None:
    """The old file stands, and the room that was taken is given back."""
    old = (small_disk / "users.csv").read_bytes()
    free = shutil.disk_usage(small_disk).free
    with serving(DATABASE_URL=database, DATA_DIR=small_disk) as (_, url):
        with connected(url) as connection:  # known before it is sent
            connection.sendall(head_of(10 * MEGABYTE, "Expect: 100-continue"))
            assert read_answer(connection)[0] == 507
        with connected(url) as connection:  # found out, in chunks
            head = head_of(0).replace(b"Content-Length: 0", CHUNKED)
            chunk = b"%x\r\n%s\r\n" % (MEGABYTE, bytes(MEGABYTE - 1) + b"\n")
            first = b"%x\r\n%s\r\n" % (len(NEW), NEW)
            connection.sendall(head + first + chunk * 10 + b"0\r\n\r\n")
            status, _, detail = read_answer(connection)
        assert status == 507
        assert detail.startswith("users.csv: no room for it: No space left on device")
        assert names(small_disk) == THREE
        assert (small_disk / "users.csv").read_bytes() == old
        assert shutil.disk_usage(small_disk).free == free
        assert put(url, NEW)[0] == 200
        assert answer(f"{url}/trigger_etl")[0] in (200, 422)


def test_a_limit_of_the_size_of_files(database: str, data_dir: Path) -> None:
    """As of ulimit -f, or of a file system that has one."""
    old = (data_dir / "users.csv").read_bytes()
    limited = ["prlimit", f"--fsize={MEGABYTE}"]
    if not shutil.which("prlimit"):
        pytest.skip("prlimit is needed")
    settings: dict[str, Any] = {"DATABASE_URL": database, "DATA_DIR": data_dir}
    with serving(wrapper=limited, **settings) as (_, url):
        status, detail = put(url, users(100_000))
        assert (status, "File too large" in detail) == (507, True)
        assert (data_dir / "users.csv").read_bytes() == old
        assert names(data_dir) == THREE
        assert put(url, NEW)[0] == 200


def test_a_folder_that_is_read_only(database: str, small_disk: Path) -> None:
    """As docker run -v "$PWD/data:/app/data:ro" gives it."""
    old = (small_disk / "users.csv").read_bytes()
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(remount, check=True)
    with serving(DATABASE_URL=database, DATA_DIR=small_disk) as (_, url):
        status, detail = put(url, NEW)
        assert status == 403
        assert detail.startswith("the service may not write to its folder of files")
        assert detail.endswith("(users.csv: Read-only file system)")
        with connected(url) as connection:
            connection.sendall(b"GET /files HTTP/1.0\r\n\r\n")
            head = connection.makefile("rb").read().split(b"\r\n\r\n")[0]
        assert b"X-Uploads-Refused: 403 the service may not write" in head
        assert answer(f"{url}{PATH}") == (200, old)
        assert answer(f"{url}/trigger_etl")[0] == 200


async def test_watch_starts_a_run_for_a_file_that_is_whole(
    start_service: StartService, data_dir: Path
) -> None:
    """And none while it is on its way."""
    client = await start_service(watch=0.1)

    async def runs() -> int:
        async with client.get("/runs") as response:
            return len(await response.json())

    async def until_waits_for(what: str) -> None:
        async with asyncio.timeout(SECONDS):
            while True:
                async with client.get("/healthz") as response:
                    if (await response.json())["watch"]["waits_for"] == what:
                        return
                await asyncio.sleep(0.05)

    await until_waits_for("change")
    assert await runs() == 1
    may_end = asyncio.Event()
    content = (data_dir / "users.csv").read_bytes() + b"11,Kim,,\n"

    async def body() -> AsyncIterator[bytes]:
        yield content[:100]
        await may_end.wait()
        yield content[100:]

    async def send() -> int:
        async with client.put(PATH, data=body()) as response:
            return response.status

    async with asyncio.TaskGroup() as group:
        sending = group.create_task(send())
        while len(names(data_dir)) < 4:
            await asyncio.sleep(0.01)
        await until_waits_for("change")
        assert await runs() == 1
        may_end.set()
        assert await sending == 200
    while len(await features(client)) != 11:
        await asyncio.sleep(0.05)
    assert await runs() == 2
