"""Entity tags, conditional requests and codings: what is sent, and what is read."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from pathlib import Path

import pytest
from aiohttp import ClientSession
from multidict import CIMultiDict
from psycopg import AsyncConnection

from etl.api.answers import VARY
from tests.support.client import Client, StartService, features, trigger

PATHS = (
    "/features",
    "/features?limit=3",
    "/features?limit=3&order=name.desc",
    "/features?limit=3&count=true",
    "/features?user_id=gt.3",
    "/features?user_id=gt.4",
    "/features?select=name",
    "/features?format=csv",
    "/features?format=ndjson",
    "/features/3",
    "/features/4",
    "/features/3?select=name",
)


async def tag_of(client: Client, path: str, **headers: str) -> str:
    async with client.get(path, headers=headers) as response:
        assert response.status == 200
        await response.read()
        return response.headers["ETag"]


async def status_of(client: Client, path: str, **headers: str) -> int:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.get(path, headers=names) as response:
        await response.read()
        return response.status


async def test_tags_tell_answers_apart(client: Client) -> None:
    await trigger(client)
    tags = [await tag_of(client, path) for path in PATHS]
    assert len(set(tags)) == len(PATHS)
    for path, tag in zip(PATHS, tags, strict=True):
        assert tag.startswith('"')
        assert await status_of(client, path, If_None_Match=tag) == 304
        for other in tags:
            if other != tag:
                assert await status_of(client, path, If_None_Match=other) == 200


async def test_tags_change_with_what_was_published_and_only_with_it(
    client: Client,
    start_service: StartService,
    connection: AsyncConnection,
    data_dir: Path,
    sql_dir: Path,
) -> None:
    empty = await tag_of(client, "/features")
    await trigger(client)
    first = [await tag_of(client, path) for path in PATHS]
    assert first[0] != empty

    async def run(number: int) -> list[str]:
        assert (await trigger(client))["run"]["id"] == number
        return [await tag_of(client, path) for path in PATHS]

    assert await run(2) == first  # the same files
    users = data_dir / "users.csv"
    shipped = users.read_text()
    users.write_text(shipped.replace("Alice", "Alicia"))
    assert not set(await run(3)) & set(first)
    users.write_text(shipped + "1,\tAgain,\t,\t\n")
    await trigger(client)  # all rules are evaluated, and one removes something
    assert (await tag_of(client, "/features")) != first[0]
    users.write_text(shipped)
    assert await run(5) == first  # all rules are evaluated, and none removes anything
    users.unlink()
    await trigger(client, 422)
    assert [await tag_of(client, path) for path in PATHS] == first
    users.write_text(shipped)
    await trigger(client, dry_run="true")
    await connection.execute("vacuum analyze features")
    assert [await tag_of(client, path) for path in PATHS] == first

    with (sql_dir / "build" / "030_features.sql").open("a") as file:
        file.write("-- a word more\n")
    client = await start_service(sql_dir=sql_dir)
    assert [await tag_of(client, path) for path in PATHS] == first
    assert not set(await run(8)) & set(first)


async def test_tags_change_with_the_columns(
    client: Client, connection: AsyncConnection
) -> None:
    await trigger(client)
    tags = [await tag_of(client, "/features")]
    for change in (
        "add column extra bigint",
        "alter column extra type text",
        "rename column extra to other",
        "drop constraint features_pkey",
    ):
        await connection.execute(f"alter table features {change}".encode())
        tags.append(await tag_of(client, "/features"))
        assert await status_of(client, "/features", If_None_Match=tags[-2]) == 200
    assert len(set(tags)) == 5
    await connection.execute("alter table features add primary key (user_id)")
    await connection.execute("alter table features drop column other")
    assert await tag_of(client, "/features") == tags[0]


async def test_a_304_reads_no_row(client: Client, connection: AsyncConnection) -> None:
    await trigger(client)
    tags = {path: await tag_of(client, path) for path in PATHS}
    async with connection.transaction():
        await connection.execute("lock table features in access exclusive mode")
        for path, tag in tags.items():
            async with client.get(path, headers={"If-None-Match": tag}) as response:
                assert response.status == 304
                assert await response.read() == b""
                assert response.headers["ETag"] == tag
                assert response.headers["Cache-Control"] == "no-cache"
                assert "Accept" in response.headers["Vary"]
                assert response.headers["X-Run-Id"] == "1"


async def test_conditions(client: Client) -> None:
    await trigger(client)
    for path in ("/features", "/features/3"):
        async with client.get(path) as response:
            tag, modified = response.headers["ETag"], response.headers["Last-Modified"]
            assert response.headers["X-Run-Id"] == "1"
            assert response.headers["Cache-Control"] == "no-cache"
        for status, headers in (
            (304, {"If_None_Match": f"W/{tag}"}),
            (304, {"If_None_Match": f'"a", "b,c" ,{tag}'}),
            (304, {"If_None_Match": "*"}),
            (200, {"If_None_Match": '"a"'}),
            (200, {"If_None_Match": tag.strip('"')}),
            (200, {"If_None_Match": ""}),
            (200, {"If_None_Match": '"a"', "If_Modified_Since": modified}),
            (200, {"If_Modified_Since": modified}),
        ):
            assert await status_of(client, path, **headers) == status, headers
    assert await status_of(client, "/features/99", If_None_Match="*") == 404
    assert await status_of(client, "/features?limit=x", If_None_Match="*") == 400


async def test_before_any_run_there_is_no_run_and_no_date(client: Client) -> None:
    async with client.get("/features") as response:
        assert "X-Run-Id" not in response.headers
        assert "Last-Modified" not in response.headers
        tag = response.headers["ETag"]
    assert await status_of(client, "/features", If_None_Match=tag) == 304


CODINGS = [
    ("gzip", "gzip"),
    ("deflate", "deflate"),
    ("br, gzip;q=0.5, deflate;q=0.4", "gzip"),
    ("gzip;q=0.4, deflate;q=0.5", "deflate"),
    ("X-GZIP", "gzip"),
    ("*", "gzip"),
    ("gzip;q=0, *", "deflate"),
    ("gzip;q=0", None),
    ("gzip;q=0.5, identity", None),
    ("identity, br", None),
    ("gzip;q=nonsense", None),
    ("", None),
]

QUERIES = ["", "?limit=5", "?format=csv"]


async def test_codings(subtests: pytest.Subtests, client: Client) -> None:
    await trigger(client)
    for accepted, coding in CODINGS:
        for query in QUERIES:
            with subtests.test(accepted=accepted, coding=coding, query=query):
                path = client.make_url(f"/features{query}")
                async with ClientSession(auto_decompress=False) as session:
                    async with session.get(
                        path, headers={"Accept-Encoding": ""}
                    ) as response:
                        plain, tag = await response.read(), response.headers["ETag"]
                        assert "Content-Encoding" not in response.headers
                    headers = {"Accept-Encoding": accepted}
                    async with session.get(path, headers=headers) as response:
                        body = await response.read()
                        assert response.headers.get("Content-Encoding") == coding
                        assert response.headers["Vary"] == VARY
                        packed_tag = response.headers["ETag"]
                    if coding == "gzip":
                        body = gzip.decompress(body)
                    elif coding == "deflate":
                        body = zlib.decompress(body)
                    assert body == plain
                    assert (packed_tag == tag) is (coding is None)
                    headers["If-None-Match"] = packed_tag
                    async with session.get(path, headers=headers) as response:
                        assert response.status == 304
                    headers["Accept-Encoding"] = ""
                    async with session.get(path, headers=headers) as response:
                        assert response.status == (304 if coding is None else 200)


async def test_head_is_get_without_its_body(client: Client) -> None:
    await trigger(client)
    for path in (*PATHS, "/features?limit=2000", "/features?limit=3&format=csv"):
        async with client.get(path) as response:
            expected = CIMultiDict(response.headers)
            await response.read()
        async with client.head(path) as response:
            assert response.status == 200
            assert await response.read() == b""
            found = CIMultiDict(response.headers)
        for headers in (expected, found):
            for name in ("Date", "Transfer-Encoding"):
                headers.pop(name, None)
        assert found == expected, path
        tag = {"If-None-Match": expected["ETag"]}
        async with client.head(path, headers=tag) as response:
            assert response.status == 304
    async with client.head("/features/99") as response:
        assert response.status == 404


async def test_nothing_follows_the_headers_of_head(client: Client) -> None:
    await trigger(client)
    assert client.server.port is not None
    for path in (b"/features", b"/features?limit=3", b"/features?format=csv"):
        reader, writer = await asyncio.open_connection(
            client.server.host, client.server.port
        )
        writer.write(b"HEAD %s HTTP/1.1\r\nHost: localhost\r\n" % path)
        writer.write(b"Accept-Encoding: gzip\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        assert b"\r\nContent-Encoding: gzip\r\n" in answer
        assert answer.find(b"\r\n\r\n") == len(answer) - 4
        writer.close()
        await writer.wait_closed()


async def test_many_who_ask_at_once_are_answered_each_for_itself(
    client: Client,
) -> None:
    """They share statements: by key and by tag."""
    await trigger(client)
    rows = await features(client)
    tag = await tag_of(client, "/features/3")

    async def ask(number: int) -> None:
        path = ("/features/{}", "/features?limit={}", "/features/3", "/features/x{}")
        kind = number % 4
        key = number % 13
        headers = {"If-None-Match": tag} if kind == 2 else {}
        async with client.get(path[kind].format(key), headers=headers) as response:
            text = await response.text()
        if kind == 0 and 1 <= key <= 10:
            assert json.loads(text) == rows[key - 1]
        elif kind == 1:
            assert json.loads(text) == rows[:key]
        else:
            assert response.status == (304 if kind == 2 else 404)

    await asyncio.gather(*(ask(number) for number in range(200)))


async def test_an_answer_that_depends_on_the_clock_is_never_304(client: Client) -> None:
    await trigger(client)
    for query in ("signup_date=lt.today", "facet=name&signup_date=lt.today"):
        url = f"/features?{query}"
        async with client.get(url) as response:
            tag = response.headers["ETag"]
        assert await status_of(client, url, If_None_Match=tag) == 200
