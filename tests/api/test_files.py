"""/files and /files/{name}.csv: what is there, and files that come and go."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData
from multidict import CIMultiDict
from psycopg import AsyncConnection

from etl.csvfiles.headers import HEAD_BYTES, MAX_HEADER_BYTES
from tests.support.client import Client, StartService, features, get, trigger

pytestmark = pytest.mark.any_postgres

USERS = b"user_id,name,email,signup_date\n1,Ann,ann@example.com,2024-01-01\n"

Answer = tuple[int, CIMultiDict[str], bytes]


async def ask(
    client: Client, method: str, path: str, data: Any = None, **headers: str
) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    data = io.BytesIO(data) if isinstance(data, bytes) else data
    async with client.request(method, path, data=data, headers=names) as response:
        return response.status, CIMultiDict(response.headers), await response.read()


async def refused(
    client: Client, method: str, path: str, data: Any = None, **headers: str
) -> tuple[int, str]:
    """The status and the detail of an error."""
    status, answered, body = await ask(client, method, path, data, **headers)
    assert answered["Content-Type"].startswith("application/problem+json")
    return status, json.loads(body)["detail"]


def tag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()}"'


def names(data_dir: Path) -> list[str]:
    """All that is in the folder, hidden files included."""
    return sorted(path.name for path in data_dir.iterdir())


THREE = ["compounds.csv", "user_experiments.csv", "users.csv"]


async def test_the_list_says_what_is_expected_and_what_is_there(
    client: Client, data_dir: Path
) -> None:
    (data_dir / "compounds.csv").unlink()
    compounds, experiments, users = await get(client, "/files")
    found = [each["file"] for each in (compounds, experiments, users)]
    assert found == THREE
    content = (data_dir / "users.csv").read_bytes()
    assert users["bytes"] == len(content)
    assert users["sha256"] == hashlib.sha256(content).hexdigest()
    assert users["modified"].endswith("+00:00")
    assert [column["name"] for column in users["columns"]] == [
        *("user_id", "name", "email", "signup_date")
    ]
    assert users["columns"][0] == {
        "name": "user_id",
        "type": "bigint",
        "required": True,
        "description": "Number of the user",
    }
    assert [compounds[each] for each in ("bytes", "sha256", "modified")] == [None] * 3


async def test_a_table_of_another_pipeline_is_expected_at_once(
    client: Client, connection: AsyncConnection
) -> None:
    await connection.execute(
        'create table staging."More ""so""" (id bigint not null, generated bigint'
        ' generated always as (id + 1) stored, skipped_1 "char")'
    )
    more = (await get(client, "/files"))[0]
    assert more["file"] == 'More "so".csv'
    assert [each["name"] for each in more["columns"]] == ["id"]
    path = "/files/More%20%22so%22.csv"
    assert (await ask(client, "PUT", path, b"id\n1\n"))[0] == 201
    _, headers, body = await ask(client, "GET", path)
    assert body == b"id\n1\n"
    disposition = "attachment; filename*=UTF-8''More%20%22so%22.csv"
    assert headers["Content-Disposition"] == disposition


async def test_a_file_is_given_back_as_it_is(client: Client, data_dir: Path) -> None:
    content = (data_dir / "users.csv").read_bytes()
    status, headers, body = await ask(client, "GET", "/files/users.csv")
    assert (status, body) == (200, content)
    assert headers["ETag"] == tag(content)
    assert headers["Content-Type"].split(";")[0] == "text/csv"
    assert headers["Content-Disposition"] == 'attachment; filename="users.csv"'
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Length"] == str(len(content))
    status, same, body = await ask(client, "HEAD", "/files/users.csv")
    assert (status, body, same["ETag"]) == (200, b"", headers["ETag"])
    assert same["Content-Length"] == str(len(content))
    known = await ask(client, "GET", "/files/users.csv", If_None_Match=tag(content))
    assert (known[0], known[1]["ETag"], known[2]) == (304, tag(content), b"")
    (data_dir / "users.csv").unlink()
    status, detail = await refused(client, "GET", "/files/users.csv")
    assert status == 404
    assert detail.startswith("users.csv: missing in ")


async def test_a_long_file_comes_and_goes_whole(client: Client, data_dir: Path) -> None:
    """Longer than what is held of one at once."""
    content = USERS + b"".join(b"%d,Ann,,\n" % number for number in range(2, 200_000))
    assert len(content) > HEAD_BYTES + MAX_HEADER_BYTES
    status, headers, _ = await ask(client, "PUT", "/files/users.csv", content)
    assert (status, headers["ETag"]) == (200, tag(content))
    assert (data_dir / "users.csv").read_bytes() == content
    assert (await ask(client, "GET", "/files/users.csv"))[2] == content


async def test_a_file_that_is_sent_is_what_the_next_run_reads(
    client: Client, data_dir: Path
) -> None:
    await trigger(client)
    status, headers, body = await ask(client, "PUT", "/files/users.csv", USERS)
    assert (status, headers["ETag"]) == (200, tag(USERS))
    listed = {each["file"]: each for each in await get(client, "/files")}
    assert json.loads(body) == listed["users.csv"]
    assert (data_dir / "users.csv").read_bytes() == USERS
    experiments = (
        b"experiment_id,user_id,experiment_compound_ids,experiment_run_time\n1,1,1,1\n"
    )
    status, _, _ = await ask(client, "PUT", "/files/user_experiments.csv", experiments)
    assert status == 200
    assert len(await features(client)) == 10  # a file alone changes nothing
    run = (await trigger(client))["run"]
    assert {each["file"]: each["sha256"] for each in run["files"]} == {
        each["file"]: each["sha256"] for each in await get(client, "/files")
    }
    assert [row["name"] for row in await features(client)] == ["Ann"]


async def test_new_files_and_removed_ones(client: Client, data_dir: Path) -> None:
    status, _, body = await ask(client, "DELETE", "/files/users.csv")
    assert (status, body) == (204, b"")
    assert names(data_dir) == THREE[:2]
    status, detail = await refused(client, "DELETE", "/files/users.csv")
    assert (status, detail) == (404, "users.csv: is not there")
    assert (await trigger(client, 422))["result"].startswith("users.csv: missing in ")
    assert (await ask(client, "PUT", "/files/users.csv", USERS))[0] == 201
    assert (await ask(client, "PUT", "/files/users.csv", USERS))[0] == 200
    assert names(data_dir) == THREE


async def test_conditions(client: Client, data_dir: Path) -> None:
    path, old = "/files/users.csv", (data_dir / "users.csv").read_bytes()
    other = tag(b"other")
    for method in ("PUT", "DELETE"):
        for headers in (
            {"If_Match": other},
            {"If_Match": f"W/{tag(old)}"},
            {"If_Match": "no tag"},
            {"If_Match": ""},
            {"If_None_Match": "*"},
            {"If_None_Match": f"{other}, {tag(old)}"},
            {"If_None_Match": "*, *"},
            {"If_Match": tag(old), "If_None_Match": tag(old)},
        ):
            status, detail = await refused(client, method, path, USERS, **headers)
            assert (status, tag(old) in detail) == (412, True), headers
    assert (data_dir / "users.csv").read_bytes() == old
    new = await ask(client, "PUT", path, USERS, If_Match=f"{other}, {tag(old)}")
    assert (new[0], new[1]["ETag"]) == (200, tag(USERS))
    assert (await ask(client, "PUT", path, old, If_Match="*"))[0] == 200
    assert (await ask(client, "PUT", path, USERS, If_None_Match=other))[0] == 200
    assert (await ask(client, "DELETE", path, If_Match=tag(USERS)))[0] == 204
    for headers in ({"If_Match": "*"}, {"If_Match": tag(USERS)}):
        for method in ("PUT", "DELETE"):
            status, detail = await refused(client, method, path, USERS, **headers)
            assert (status, "missing" in detail) == (412, True)
    assert (await ask(client, "PUT", path, USERS, If_None_Match="*"))[0] == 201


async def test_a_condition_holds_right_before_the_file_is_replaced(
    client: Client, data_dir: Path
) -> None:
    """Another file has come while the body was still on its way."""
    old = (data_dir / "users.csv").read_bytes()
    is_there = asyncio.Event()

    async def body() -> Any:
        yield USERS
        await is_there.wait()
        yield b"2,Ben,,\n"

    sending = asyncio.create_task(
        refused(client, "PUT", "/files/users.csv", body(), If_Match=tag(old))
    )
    while names(data_dir) == THREE:
        await asyncio.sleep(0.01)
    assert (await ask(client, "PUT", "/files/users.csv", USERS))[0] == 200
    is_there.set()
    status, detail = await sending
    assert (status, tag(USERS) in detail) == (412, True)
    assert (data_dir / "users.csv").read_bytes() == USERS
    assert names(data_dir) == THREE


REFUSED = [
    b"",
    b"\n\n \n",
    b"a,b\n1,2\n",
    b"user_id,name,email\n1,A,\n",
    b"user_id,name,email,signup_date,USER_ID\n",
    b'user_id,name,email,"signup_date\n1,A,,\n',
    gzip.compress(USERS, mtime=0),
    b"PK\x03\x04" + bytes(100),
    USERS.decode().encode("utf-16"),
    USERS.decode().encode("utf-16-le"),
    b"user_id,name,email,signup_date,\xff\n",
    b"user_id,name,email,signup_date,\0\n",
    b"user_id\rname\r1\rA\r",
    b"user_id,name,email,signup_date," + b"x" * (1 << 20) + b"\n",
    b"user_id,name,email,signup_date" + b",x" * 1000 + b"\n",
    b"," * (HEAD_BYTES + 10),
    b"sep=!\n" + USERS,
    b"x" * (2 * HEAD_BYTES),
]


async def test_a_file_that_no_run_would_read_is_refused_as_a_run_does(
    subtests: pytest.Subtests, client: Client, data_dir: Path
) -> None:
    for content in REFUSED:
        with subtests.test(content=content[:40]):
            old = (data_dir / "users.csv").read_bytes()
            status, detail = await refused(client, "PUT", "/files/users.csv", content)
            assert status == 422
            assert (data_dir / "users.csv").read_bytes() == old
            assert names(data_dir) == THREE
            (data_dir / "users.csv").write_bytes(content)
            assert (await trigger(client, 422))["result"] == detail


UNUSUAL = [
    b"user_id,name,email,signup_date",
    b"\xef\xbb\xbfsep=;\r\nUser ID;Name;EMAIL;signup date\r\n1;Ann;;\r\n",
    b"\n" * 1000 + USERS,
    b"signup_date\temail\tname\tuser_id\tmore\n",
]


async def test_a_header_alone_and_unusual_ones_are_taken(
    subtests: pytest.Subtests, client: Client, data_dir: Path
) -> None:
    """Whether a file without records may be published is for a run to decide."""
    for content in UNUSUAL:
        with subtests.test(content=content[:40]):
            assert (await ask(client, "PUT", "/files/users.csv", content))[0] == 200
            assert (data_dir / "users.csv").read_bytes() == content


OTHER_NAMES = [
    "nothing.csv",
    "USERS.csv",
    "users.csv.csv",
    ".users.csv",
    "..%2Fusers.csv",
    "%2E%2E%2Fdata%2Fusers.csv",
    "data%2Fusers.csv",
    "users%00.csv",
    "%00.csv",
    "users%0A.csv",
    "%FF.csv",
    "users%20.csv",
    "*.csv",
    "x" * 300 + ".csv",
]


async def test_other_names_are_not_there(
    subtests: pytest.Subtests, client: Client, data_dir: Path
) -> None:
    for name in OTHER_NAMES:
        with subtests.test(name=name):
            for method in ("GET", "PUT", "DELETE"):
                status, detail = await refused(client, method, f"/files/{name}", USERS)
                assert (status, detail.split(", but ")[-1]) == (404, ", ".join(THREE))
            assert names(data_dir) == THREE
            assert names(data_dir.parent) == ["data"]


OTHER_PATHS = ["/files/users.CSV", "/files/", "/files/users", "/files/a/b.csv"]


async def test_other_paths_are_not_there(
    subtests: pytest.Subtests, client: Client
) -> None:
    for path in OTHER_PATHS:
        with subtests.test(path=path):
            assert (await ask(client, "PUT", path, USERS))[0] == 404


async def test_a_folder_with_the_name_of_a_file(client: Client, data_dir: Path) -> None:
    (data_dir / "users.csv").unlink()
    (data_dir / "users.csv").mkdir()
    (data_dir / "users.csv" / "kept").touch()
    for method in ("PUT", "DELETE"):
        status, detail = await refused(client, method, "/files/users.csv", USERS)
        assert (status, detail) == (409, "users.csv: is a folder: remove it")
    assert (await refused(client, "GET", "/files/users.csv"))[0] == 404
    assert (await get(client, "/files"))[2]["bytes"] is None
    assert (data_dir / "users.csv" / "kept").exists()


async def test_a_link_is_replaced_and_not_what_it_leads_to(
    client: Client, data_dir: Path, tmp_path: Path
) -> None:
    elsewhere, path = tmp_path / "elsewhere.csv", data_dir / "users.csv"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    content = elsewhere.read_bytes()
    assert (await ask(client, "GET", "/files/users.csv"))[2] == content  # as a run does
    assert (await ask(client, "PUT", "/files/users.csv", USERS))[0] == 200
    assert not path.is_symlink()
    assert elsewhere.read_bytes() == content
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    assert (await ask(client, "GET", "/files/users.csv"))[0] == 404
    assert (await ask(client, "DELETE", "/files/users.csv"))[0] == 204
    assert names(data_dir) == THREE[:2]


async def test_permissions_stay(client: Client, data_dir: Path) -> None:
    path = data_dir / "users.csv"
    path.chmod(0o640)
    assert (await ask(client, "PUT", "/files/users.csv", USERS))[0] == 200
    assert path.stat().st_mode & 0o777 == 0o640


async def test_a_hash_is_of_the_file_as_it_is(client: Client, data_dir: Path) -> None:
    """Also of one that is changed in place, with the size and time that it had."""
    path = data_dir / "users.csv"
    before = path.stat()
    first = (await get(client, "/files"))[2]
    path.write_bytes(path.read_bytes().replace(b"Alice", b"Bella"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = (await get(client, "/files"))[2]
    assert first["modified"] == second["modified"]
    assert second["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert first["sha256"] != second["sha256"]


async def test_what_is_no_file_is_refused(client: Client, data_dir: Path) -> None:
    form = FormData()
    form.add_field("file", USERS, filename="users.csv")
    packed = gzip.compress(USERS, mtime=0)
    for status, data, headers in (
        (415, form, {}),
        (415, packed, {"Content_Encoding": "gzip"}),
        (400, USERS, {"Content_Range": "bytes 0-9/100"}),
        (417, USERS, {"Expect": "more"}),
        (400, USERS, {"Content_Type": "text/csv", "path": "?x=1"}),
    ):
        path = f"/files/users.csv{headers.pop('path', '')}"
        assert (await refused(client, "PUT", path, data, **headers))[0] == status
    for given in ("text/csv", "application/x-www-form-urlencoded", "odd"):
        status, _, _ = await ask(
            client, "PUT", "/files/users.csv", USERS, Content_Type=given
        )
        assert status == 200
    assert names(data_dir) == THREE


async def test_a_transfer_coding_that_is_not_undone_is_refused(
    client: Client, data_dir: Path
) -> None:
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(
        b"PUT /files/users.csv HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Transfer-Encoding: gzip, chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
        % (len(USERS), USERS)
    )
    assert (await reader.read()).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    writer.close()
    assert (data_dir / "users.csv").read_bytes() != USERS


async def test_a_file_that_is_too_long(
    start_service: StartService, data_dir: Path
) -> None:
    client = await start_service(max_upload=len(USERS))
    assert (await ask(client, "PUT", "/files/users.csv", USERS))[0] == 200

    async def chunks() -> Any:
        yield USERS
        yield b"2"

    for data in (USERS + b"2", chunks()):
        status, detail = await refused(client, "PUT", "/files/users.csv", data)
        assert status == 413
        limit = len(USERS)
        assert detail == f"users.csv: is longer than MAX_UPLOAD allows: {limit} bytes"
    assert (data_dir / "users.csv").read_bytes() == USERS
    assert names(data_dir) == THREE


async def test_uploads_may_be_off(start_service: StartService, data_dir: Path) -> None:
    client = await start_service(uploads=False, api_token="run")
    token = {"Authorization": "Bearer run"}
    for method in ("PUT", "DELETE"):
        status, detail = await refused(
            client, method, "/files/users.csv", USERS, **token
        )
        assert (status, detail[:11]) == (403, "UPLOADS=off")
        assert (await refused(client, method, "/files/users.csv", USERS))[0] == 401
    assert (await ask(client, "GET", "/files/users.csv", **token))[0] == 200


async def test_other_methods(client: Client) -> None:
    for path, allowed in (
        ("/files", "GET, HEAD, OPTIONS"),
        ("/files/users.csv", "DELETE, GET, HEAD, OPTIONS, PUT"),
    ):
        status, headers, _ = await ask(client, "POST", path, USERS)
        assert (status, headers["Allow"]) == (405, allowed)


async def test_the_list_says_whether_its_reader_may_send_files(
    start_service: StartService, data_dir: Path
) -> None:
    """With the status and the reason that such a request would get."""
    run, wrong = ({"Authorization": f"Bearer {each}"} for each in ("run", "wrong"))
    through = {"X_Forwarded_For": "192.0.2.1"}
    for settings, headers, expected in (
        ({}, {}, None),
        ({}, through, 403),
        ({"uploads": False}, {}, 403),
        ({"api_token": "run"}, {}, 401),
        ({"api_token": "run"}, wrong, 401),
        ({"api_token": "run"}, {**run, **through}, None),
        ({"api_token": "run", "uploads": False}, run, 403),
    ):
        client = await start_service(**settings)
        status, found, _ = await ask(client, "GET", "/files", **headers)
        assert (status, found["X-Max-Upload"]) == (200, str(2 << 30))
        for method in ("PUT", "DELETE"):
            status, _, body = await ask(
                client, method, "/files/users.csv", USERS, **headers
            )
            refusal = f"{status} {json.loads(body)['detail']}" if status > 400 else None
            assert found.get("X-Uploads-Refused") == refusal
            assert (status if refusal else None) == expected
        (data_dir / "users.csv").write_bytes(USERS)


async def test_one_client_may_have_half_of_the_uploads(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is refused before anything else is asked of the database."""
    monkeypatch.setattr("etl.api.expected.MAX_UPLOADS", 2)
    client = await start_service(
        trusted_proxies=(ip_network("127.0.0.1"),), api_token="run"
    )
    begun, is_complete = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield USERS
        begun.set()
        await is_complete.wait()

    async def put(address: str, name: str, data: Any) -> int:
        headers = {"Authorization": "Bearer run", "X-Forwarded-For": address}
        path = f"/files/{name}.csv"
        async with client.put(path, data=data, headers=headers) as response:
            return response.status

    slow = asyncio.create_task(put("192.0.2.1", "users", slowly()))
    await begun.wait()
    assert await put("192.0.2.1", "unknown", USERS) == 503
    assert await put("192.0.2.2", "users", USERS) == 200
    is_complete.set()
    assert await slow == 200
    assert await put("192.0.2.1", "users", USERS) == 200


async def test_a_folder_that_is_gone(client: Client, data_dir: Path) -> None:
    """It may be a volume that is not mounted: the files are there again with it."""
    elsewhere = data_dir.rename(data_dir.with_name("elsewhere"))
    gone = (503, "users.csv: the folder of files is gone: ")
    replacements: list[tuple[Callable[[], object], tuple[int, str]]] = [
        (data_dir.exists, (404, "users.csv: is not there")),
        (data_dir.touch, gone),
        (partial(data_dir.symlink_to, data_dir), gone),
    ]
    for replace, when_removed in replacements:
        replace()
        for method, data, (status, reason) in (
            ("PUT", USERS, gone),
            ("DELETE", None, when_removed),
        ):
            answer = await refused(client, method, "/files/users.csv", data)
            assert answer[0] == status
            assert answer[1].startswith(reason)
        data_dir.unlink(missing_ok=True)
    elsewhere.rename(data_dir)
    assert (await ask(client, "PUT", "/files/users.csv", USERS))[0] == 200
