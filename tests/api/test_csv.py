"""CSV of /features: every reader gets every row, and booleans are true and false."""

from __future__ import annotations

import csv
import io

import pytest
from psycopg import AsyncConnection

from tests.support.client import Client, StartService
from tests.support.databases import run_program

#: Booleans in every way that a column may hold them, and types whose text differs from
#: their output.
COLUMNS = """
create domain flag as boolean;
create domain flags as flag[];
alter table features
    add column yes boolean,
    add column "of a domain" flag,
    add column list boolean[],
    add column lists flags,
    add column padded char(4),
    add column address inet
"""

ROWS = """
insert into features (
    user_id, name, total_experiments, avg_experiments, experiments_pct,
    yes, "of a domain", list, lists, padded, address
)
values
    (10, 'A', 1, 1, 1, true, false, '{t,f,null}', '{{t},{f}}', 'ab', '10.0.0.1'),
    (9, null, 1, 1, 1, false, true, '{}', null, null, null),
    (2, '', 1, 1, 1, null, null, null, null, '', null),
    (1, null, 1, 1, 1, false, null, null, null, null, null)
"""


@pytest.fixture
async def service(start_service: StartService, connection: AsyncConnection) -> Client:
    await connection.execute(COLUMNS)
    await connection.execute(ROWS)
    return await start_service()


async def text_of(client: Client, query: str) -> str:
    path = f"/features?format=csv&{query}"
    async with client.get(path, headers={"Accept-Encoding": "identity"}) as response:
        assert response.status == 200
        return await response.text()


TEXTS = [
    ("select=name", 'name\n""\n""\n""\nA\n'),
    ("select=name&limit=1", 'name\n""\n'),
    ("select=name&name=is.not_null&order=name.desc", 'name\nA\n""\n'),
    ("select=user_id", "user_id\n1\n2\n9\n10\n"),
    ("select=user_id&order=user_id.desc", "user_id\n10\n9\n2\n1\n"),
    ("select=signup_date", 'signup_date\n""\n""\n""\n""\n'),
    ("select=yes", 'yes\nfalse\n""\nfalse\ntrue\n'),
    (
        "select=yes,user_id&order=yes.desc,user_id.desc",
        "yes,user_id\n,2\ntrue,10\nfalse,9\nfalse,1\n",
    ),
    ('select="of a domain"', 'of a domain\n""\n""\ntrue\nfalse\n'),
    (
        "select=list,lists&yes=is.not_null",
        'list,lists\n,\n{},\n"{true,false,NULL}","{{true},{false}}"\n',
    ),
    ("select=padded,user_id&user_id=eq.10", "padded,user_id\nab  ,10\n"),
    ("select=address&user_id=eq.10", "address\n10.0.0.1\n"),
    ("select=name,signup_date", 'name,signup_date\n,\n"",\n,\nA,\n'),
    ("select=name&user_id=eq.0", "name\n"),
]


async def test_every_row_has_a_line_that_is_not_blank(
    subtests: pytest.Subtests, service: Client
) -> None:
    for query, text in TEXTS:
        with subtests.test(query=query, text=text):
            assert await text_of(service, query) == text


async def test_readers_have_every_row(
    service: Client, connection: AsyncConnection, database: str
) -> None:
    text = await text_of(service, "select=name")
    read = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["name"] for row in read] == ["", "", "", "A"]
    await connection.execute("create table copied (name text, yes boolean)")
    for column in ("name", "yes"):
        text = await text_of(service, f"select={column}&yes=is.not_null")
        copy = f"copy copied ({column}) from stdin (format csv, header match)"
        async with connection.cursor() as cursor, cursor.copy(copy) as sent:
            await sent.write(text.encode())
    counts = "select count(*), count(yes) from copied"
    assert run_program("psql", database, "-Atc", counts) == "6|3\n"
