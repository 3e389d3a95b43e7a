"""postgrest of PyPI reads the table as it reads one of PostgREST.

A call is code of its users. What begins with a dot follows
``client.from_("features")``, where the client is the one that waits, and then the one
for asyncio: both must come to the same answer.
"""

from __future__ import annotations

import csv
import inspect
import io
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import psycopg
import pytest
import pytest_asyncio
from postgrest import APIError, AsyncPostgrestClient, CountMethod, SyncPostgrestClient

from tests.support.answers import (
    Answer,
    Got,
    any_order,
    data,
    error,
    in_order,
    require,
    rows,
    users,
)
from tests.support.processes import serving

pytestmark = pytest.mark.any_postgres

ROWS = 3000
MANY_ROWS = f"""
insert into features (
    user_id, total_experiments, avg_experiments, experiments_pct
)
select number, 0, 0, 0 from generate_series(1, {ROWS}) as number
"""

#: The client for asyncio belongs to one loop.
IN_THE_LOOP = pytest.mark.asyncio(loop_scope="module")

ALL = users(1, 2, 3, 4, 5, 6)
COUNT_METHODS = {method.name.upper(): method for method in CountMethod}

SELECT = [
    (
        ".select('user_id', 'name').eq('user_id', 3)",
        rows({"user_id": 3, "name": "Zoë O'Neil"}),
    ),
    (
        ".select('id:user_id, n:signup_date::text').eq('user_id', 1)",
        rows({"id": 1, "n": "2024-01-01"}),
    ),
    (
        ".select('\"first, last (a.b)\"').eq('user_id', 1)",
        rows({"first, last (a.b)": "Ada, L"}),
    ),
    (
        ".select('profile->>city', 'profile->langs->0').eq('user_id', 1)",
        rows({"city": "London", "langs": "en"}),
    ),
    (".select('count()')", rows({"count": 6})),
    (".select('count')", rows({"count": 6})),
    (".select('total_experiments.sum()')", rows({"sum": 10})),
    (".select('n:amount.avg()::int').lt('amount', 1)", rows({"n": 0})),
    (
        ".select('active', 'total_experiments.max()')",
        any_order(
            {"active": True, "max": 3},
            {"active": False, "max": 3},
            {"active": None, "max": 1},
        ),
    ),
]

#: What follows ``.select('user_id')``.
FILTERS = [
    (".eq('name', 'Bob \"Bobby\" Baker, Jr.')", users(2)),
    (".eq('active', True)", users(1, 4, 6)),
    (".eq('mood', 'so, so')", users(2)),
    (".eq('profile', {'age': 'old'})", users(6)),
    (".eq('profile->>city', 'London')", users(1, 4)),
    (".eq('first, last (a.b)', 'Ada, L')", users(1)),
    (".neq('total_experiments', 3)", users(3, 4, 5, 6)),
    (".gt('amount', 10)", users(1, 2, 5)),
    (".gte('signup_date', '2024-02-29')", users(5, 6)),
    (".lt('mood', 'sad')", users(1, 2, 5)),
    (".lte('seen_at', '2024-01-01T12:00:00Z')", users(1)),
    (".gt('user_id', 2).lt('user_id', 5)", users(3, 4)),
    (".is_('name', None)", users(4)),
    (".is_('active', True)", users(1, 4, 6)),
    (".is_('active', False)", users(2, 5)),
    (".is_('active', 'unknown')", users(3)),
    (".is_('active', 'not_null')", users(1, 2, 4, 5, 6)),
    (".like('name', '%Lovelace')", users(1)),
    (".ilike('name', 'CAROL*')", users(6)),
    (".like_all_of('name', '%a%,%l%')", users(1, 6)),
    (".like_any_of('name', 'Ada%,Zo_ %')", users(1, 3)),
    (".ilike_all_of('name', '%A%,%C%')", users(1, 6)),
    (".ilike_any_of('name', 'ada%,\"%BAKER, %\"')", users(1, 2)),
    (".in_('user_id', [1, 3, 99])", users(1, 3)),
    (".in_('user_id', [])", users()),
    (".in_('user_id', range(3000))", ALL),
    (".in_('name', ['Bob \"Bobby\" Baker, Jr.', 'carol (cc): 1.5'])", users(2, 6)),
    (".in_('name', ['100%_sure\\\\', \"Zoë O'Neil\"])", users(3, 5)),
    (".in_('active', [False])", users(2, 5)),
    (".cs('tags', ['a,b'])", users(3, 6)),
    (".cs('scores', [2, 3])", users(1, 2)),
    (".cd('scores', [1, 2, 3])", users(1, 2, 5, 6)),
    (".contains('tags', ['poetry'])", users(1, 3)),
    (".contains('span', '[2,3)')", users(1, 5)),
    (".contains('profile', {'city': 'London'})", users(1, 4)),
    (".contained_by('tags', ['math', 'poetry'])", users(1, 2, 5)),
    (".contained_by('span', '[0,20)')", users(1, 2, 5, 6)),
    (".contained_by('profile', {'city': 'London', 'age': 20})", users(4)),
    (".ov('span', '[2,12)')", users(1, 2, 5)),
    (".ov('scores', [3, 10])", users(1, 2, 3)),
    (".overlaps('tags', ['math', 'poetry'])", users(1, 3, 5, 6)),
    (".sl('span', (9, 12))", users(1, 5)),
    (".sr('span', (5, 8))", users(2, 3)),
    (".nxl('span', (9, 15))", users(2, 3)),
    (".nxr('span', (0, 10))", users(1, 5)),
    (".adj('span', (29, 40))", users(3)),
    (".range_lt('span', (9, 12))", users(1, 5)),
    (".range_gt('span', (5, 8))", users(2, 3)),
    (".range_gte('span', (9, 15))", users(2, 3)),
    (".range_lte('span', (0, 10))", users(1, 5)),
    (".range_adjacent('span', (29, 40))", users(3)),
    (".fts('bio_words', 'fat')", users(1, 2)),
    (".plfts('bio_words', 'fat rat')", users(2)),
    (".phfts('bio_words', 'fat rat')", users(2)),
    (".wfts('bio_words', 'fat -rat')", users(1)),
    (
        ".text_search('bio_words', 'the fat cats',"
        " {'type': 'plain', 'config': 'english'})",
        users(1),
    ),
    (
        ".text_search('bio_words', 'cats and rats',"
        " {'type': 'phrase', 'config': 'english'})",
        users(4),
    ),
    (
        ".text_search('bio_words', 'fat -cats',"
        " {'type': 'web_search', 'config': 'english'})",
        users(2),
    ),
    (".text_search('bio', 'amusant', {'config': 'french'})", users(6)),
    (".match({'most_common_compound_id': 1, 'active': True})", users(1)),
    (".not_.is_('name', None)", users(1, 2, 3, 5, 6)),
    (".not_.eq('total_experiments', 3)", users(3, 4, 5, 6)),
    (".not_.in_('user_id', [1, 2])", users(3, 4, 5, 6)),
    (".not_.like('name', '%a%')", users(3, 5)),
    (".not_.contains('tags', ['math'])", users(2, 3)),
    (".not_.fts('bio_words', 'fat')", users(4, 5, 6)),
    (".or_('total_experiments.eq.0,name.like.Ada%')", users(1, 4)),
    (".or_('user_id.eq.1,and(mood.eq.sad,active.is.true)')", users(1, 6)),
    (".not_.or_('user_id.lt.3,user_id.gt.4')", users(3, 4)),
    (".filter('name', 'imatch', '^[abc]')", users(1, 2, 6)),
    (".filter('user_id', 'not.in', '(1,2)')", users(3, 4, 5, 6)),
    (".filter('name', 'isdistinct', 'Ada Lovelace')", users(2, 3, 4, 5, 6)),
    (".filter('user_id', 'gte(any)', '{5,9}')", users(5, 6)),
]

#: What follows ``.select('user_id')``.
ORDER_AND_PAGES = [
    (
        ".order('total_experiments', desc=True).order('user_id')",
        in_order(1, 2, 6, 3, 5, 4),
    ),
    (
        ".order('signup_date', nullsfirst=True).order('user_id')",
        in_order(3, 1, 2, 4, 6, 5),
    ),
    (
        ".order('signup_date', desc=True, nullsfirst=False)"
        ".order('user_id', desc=True)",
        in_order(5, 6, 4, 2, 1, 3),
    ),
    (".order('user_id').limit(2)", in_order(1, 2)),
    (".order('user_id').limit(2).offset(3)", in_order(4, 5)),
    (".order('user_id').offset(4)", in_order(5, 6)),
    (".order('user_id').range(1, 3)", in_order(2, 3, 4)),
    (".range(10, 20)", in_order()),
    (".limit(0)", in_order()),
    (".limit(-1)", error(416, "PGRST103")),
]

COUNTS = [
    (".select('user_id', count=PLANNED)", ALL.of(6)),
    (".select('*', count=PLANNED, head=True)", data([]).of(6)),
    (".select('user_id', count=EXACT)", ALL.of(6)),
    (".select('user_id', count=ESTIMATED)", ALL.of(6)),
    (".select('user_id', count=EXACT).order('user_id').limit(2)", in_order(1, 2).of(6)),
    (".select('user_id', count=EXACT).eq('user_id', 99)", users().of(0)),
    (
        ".select('user_id', count=EXACT).range(10, 20)",
        error(
            416,
            "PGRST103",
            details="An offset of 10 was requested, but there are only 6 rows.",
        ),
    ),
    # Of an answer without a body the client makes an empty list.
    (".select('*', count=EXACT, head=True)", data([]).of(6)),
    (".select('*', head=True)", data([])),
    (".select('*', count=EXACT, head=True).eq('active', True)", data([]).of(3)),
    (
        ".select('user_id', count=EXACT).eq('user_id', 1).single()",
        data({"user_id": 1}).of(1),
    ),
]

SHAPES = [
    (".select('user_id').eq('user_id', 1).single()", data({"user_id": 1})),
    (
        ".select('user_id').eq('user_id', 99).single()",
        error(406, "PGRST116", details="The result contains 0 rows", hint=None),
    ),
    (
        ".select('user_id').single()",
        error(406, "PGRST116", details="The result contains 6 rows", hint=None),
    ),
    (".select('user_id').eq('user_id', 1).maybe_single()", data({"user_id": 1})),
    (".select('user_id').eq('user_id', 99).maybe_single()", data(None)),
    (
        ".select('user_id', 'signup_date').in_('user_id', [3, 4])"
        ".order('user_id').strip_nulls()",
        rows({"user_id": 3}, {"user_id": 4, "signup_date": "2024-01-02"}),
    ),
    (
        ".select('profile', 'name').eq('user_id', 4).strip_nulls().single()",
        data({"profile": {"city": "London", "age": 20}}),
    ),
    (".select('user_id').eq('user_id', 1).retry(False)", users(1)),
    (".select('user_id').lt('user_id', 3).max_affected(1)", users(1, 2)),
]

ERRORS = [
    (
        ".select('nope')",
        error(400, "42703", message="column features.nope does not exist"),
    ),
    (".select('*').eq('nope', 1)", error(400, "42703")),
    # The code of an error without a body is in the header Proxy-Status.
    (".select('nope', head=True)", error(400, "42703")),
    (
        ".select('*').eq('user_id', 'x')",
        error(400, "22P02", message='invalid input syntax for type bigint: "x"'),
    ),
    (".select('*').eq('signup_date', None)", error(400, "22007")),
    (".select('*').like('user_id', '1%')", error(404, "42883")),
    (".select('user_id,')", error(400, "PGRST100")),
    (".select('*').or_('')", error(400, "PGRST100")),
    (".select('*').filter('name', 'nope', 'x')", error(400, "PGRST100")),
    (".select('*').explain()", error(406, "PGRST107")),
    (".select('*').explain(analyze=True, format='json')", error(406, "PGRST107")),
]

#: Calls of PostgREST that cannot apply here: the table is filled by runs alone, and is
#: the only one, so that there is nothing to embed.
INAPPLICABLE = [
    (".insert({'user_id': 7})", error(405, "PGRST117")),
    (".upsert([{'user_id': 1}])", error(405, "PGRST117")),
    (".update({'name': 'x'}).eq('user_id', 1)", error(405, "PGRST117")),
    (".delete().eq('user_id', 1)", error(405, "PGRST117")),
    (".select('*', 'other(*)')", error(400, "PGRST200")),
    (".select('*').or_('a.eq.1', reference_table='other')", error(400, "PGRST108")),
    (".select('*').order('a', foreign_table='other')", error(400, "PGRST108")),
    (".select('*').limit(1, foreign_table='other')", error(400, "PGRST108")),
]

#: Calls of the client itself.
OF_THE_CLIENT = [
    ("client.table('features').select('user_id')", ALL),
    ("client.schema('public').from_('features').select('user_id')", ALL),
    (
        "client.schema('other').from_('features').select('user_id')",
        error(406, "PGRST106"),
    ),
    (
        "client.from_('nope').select('*')",
        error(
            404,
            "PGRST205",
            message="Could not find the table 'public.nope' in the schema cache",
        ),
    ),
    ("client.rpc('nope', {})", error(404, "PGRST202")),
    ("client.rpc('nope', {'a': '1'}, get=True)", error(404, "PGRST202")),
]

ANSWERS: dict[str, Answer] = {
    **dict([*SELECT, *COUNTS, *SHAPES, *ERRORS, *INAPPLICABLE, *OF_THE_CLIENT]),
    **{f".select('user_id'){call}": answer for call, answer in FILTERS},
    **{f".select('user_id'){call}": answer for call, answer in ORDER_AND_PAGES},
}


@dataclass
class Clients:
    """The client that waits, and the one for asyncio."""

    waiting: SyncPostgrestClient
    waited_for: AsyncPostgrestClient

    async def results(self, call: str) -> list[Got]:
        """What a call comes to with either."""
        return [await _result(call, self.waiting), await _result(call, self.waited_for)]


async def _result(call: str, client: object) -> Got:
    code = re.sub(r"\A\.", 'client.from_("features").', call)
    try:
        ended = eval(code, {**COUNT_METHODS, "client": client}).execute()  # noqa: S307 (ours)
        ended = await ended if inspect.isawaitable(ended) else ended
    except APIError as refused:
        return Got(None, error=refused.json())
    # Of a single row that is not there the client makes None.
    return Got(None) if ended is None else Got(None, ended.data, ended.count)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clients(url: str) -> AsyncIterator[Clients]:
    with SyncPostgrestClient(url) as waiting:
        async with AsyncPostgrestClient(url) as waited_for:
            yield Clients(waiting, waited_for)


@IN_THE_LOOP
@pytest.mark.parametrize("call", ANSWERS, ids=str)
async def test_calls(clients: Clients, call: str) -> None:
    for got in await clients.results(call):
        require(ANSWERS[call], got)


@IN_THE_LOOP
async def test_csv(clients: Clients) -> None:
    columns = ".select('user_id', 'name', 'signup_date')"
    for got in await clients.results(
        f"{columns}.lte('user_id', 4).order('user_id').csv()"
    ):
        assert list(csv.reader(io.StringIO(got.data))) == [
            ["user_id", "name", "signup_date"],
            ["1", "Ada Lovelace", "2024-01-01"],
            ["2", 'Bob "Bobby" Baker, Jr.', "2024-01-02"],
            ["3", "Zoë O'Neil", ""],
            ["4", "", "2024-01-02"],
        ]


def test_tokens(filled: str) -> None:
    token = "secret"
    with (
        serving(DATABASE_URL=filled, API_TOKEN_READ=token) as (_, address),
        SyncPostgrestClient(address) as client,
    ):
        with pytest.raises(APIError) as refused:
            client.from_("features").select("*").execute()
        assert refused.value.code == "PGRST302"
        assert refused.value.message
        client.auth(token)
        answer = client.from_("features").select("user_id").eq("user_id", 1).execute()
        assert answer.data == [{"user_id": 1}]


def test_counts_of_answers_that_are_streamed(database: str) -> None:
    """All rows of a table whose answer is not made as one text."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(MANY_ROWS.encode())
        connection.execute("vacuum analyze features")
    with (
        serving(DATABASE_URL=database) as (_, address),
        SyncPostgrestClient(address) as client,
    ):
        for method in CountMethod:
            for head in (False, True):
                table = client.from_("features")
                answer = table.select("user_id", count=method, head=head).execute()
                assert answer.count == ROWS, (method, head)
                assert len(answer.data) == (0 if head else ROWS)
