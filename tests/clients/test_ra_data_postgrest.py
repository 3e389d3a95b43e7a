"""@raphiniert/ra-data-postgrest gives react-admin the table as one of PostgREST.

A call is code of its users: of ``keyed``, whose key is the column user_id, of
``pairs``, with a key of two columns, or of ``provider(key, options)``, another one. The
client adds the key as ``id`` to each record.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.answers import Answer, Got, data, error, require
from tests.support.node import drive

pytestmark = pytest.mark.any_postgres

#: A list of ten users by their numbers, with these columns.
PAGE = "pagination: { page: 1, perPage: 10 }"
BY_ID = "sort: { field: 'id', order: 'ASC' }"
NUMBERS = "meta: { columns: ['user_id'] }"


def listed(rest: str) -> str:
    """A list of the numbers of users, in their order."""
    return f"keyed.getList('features', {{ {PAGE}, {BY_ID}, {NUMBERS}, {rest} }})"


def users(*numbers: int, total: int | None = None) -> Answer:
    """These users in this order, and the total that the list is a page of."""
    found = [{"user_id": number, "id": number} for number in numbers]
    return data(found).of(len(numbers) if total is None else total)


def records(*numbers: int) -> Answer:
    """These users, without a total."""
    return data([{"user_id": number, "id": number} for number in numbers])


#: Filters of a list, as react-admin's inputs make them.
FILTERS = [
    ("{}", users(1, 2, 3, 4, 5, 6)),
    ("{ total_experiments: 1 }", users(3, 5)),
    ("{ 'name@ilike': 'ada' }", users(1)),
    ("{ 'name@like': 'Baker,' }", users(2)),
    ("{ 'name@ilike': 'zoë' }", users(3)),
    ("{ 'user_id@gte': 3, 'user_id@lt': 5 }", users(3, 4)),
    ("{ 'total_experiments@neq': 3 }", users(3, 4, 5, 6)),
    ("{ 'user_id@in': '(1,3)' }", users(1, 3)),
    ("{ 'name@is': 'null' }", users(4)),
    ("{ 'active@is': true }", users(1, 4, 6)),
    ("{ 'name@not': 'is.null' }", users(1, 2, 3, 5, 6)),
    ("{ 'name@match': '^[AB]' }", users(1, 2)),
    ("{ 'name@imatch': '^[abc]' }", users(1, 2, 6)),
    ("{ 'tags@cs': '{math}' }", users(1, 5, 6)),
    ("{ 'scores@cd': '{1,2,3}' }", users(1, 2, 5, 6)),
    ("{ 'scores@ov': '{3,10}' }", users(1, 2, 3)),
    ("{ 'span@sl': '[10,12)' }", users(1, 5)),
    ("{ 'span@sr': '[5,8]' }", users(2, 3)),
    ("{ 'span@nxl': '[10,15)' }", users(2, 3)),
    ("{ 'span@nxr': '[1,10)' }", users(1, 5)),
    ("{ 'span@adj': '[30,40)' }", users(3)),
    ("{ 'bio_words@fts': 'fat' }", users(1, 2)),
    ("{ 'bio_words@plfts': 'fat rat' }", users(2)),
    ("{ 'bio_words@phfts': 'fat rat' }", users(2)),
    ("{ 'bio_words@wfts': 'fat -rat' }", users(1)),
    ("{ 'profile->>city': 'London' }", users(1, 4)),
    ("{ '@or': { 'total_experiments@eq': 0, 'name@like': 'Ada' } }", users(1, 4)),
    ("{ '@and': { 'user_id@gt': 1, 'active@is': true } }", users(4, 6)),
    ("{ user_id: 99 }", users()),
    ("{ user_id: 'x' }", error(400, "22P02")),
    ("{ nope: 1 }", error(400, "42703")),
    # Two filters on one column are name[0]=… and name[1]=…, of three the first is
    # name[0][0]=…: what follows a name that is complete is nothing to PostgREST
    # (pTreePath does not ask for the end of input).
    ("{ 'name@ilike': 'ada love' }", users(1)),
    ("{ 'name@ilike': 'ada baker' }", users()),
    ("{ 'name@ilike': 'bob bobby jr. baker' }", users(2)),
    ("{ 'user_id@gt': 2, 'user_id@lt': 5, 'user_id@neq': 4 }", users(3)),
    # The client writes what is in it as and.(…), which is no condition.
    ("{ '@or': { user_id: 1, '@and': { user_id: 2 } } }", error(400, "PGRST100")),
]

SINGULAR = "Cannot coerce the result to a single JSON object"

CALLS = [
    *((listed(f"filter: {given}"), answer) for given, answer in FILTERS),
    # Pages: the second of two, one that begins behind the last row, and one after it.
    (
        listed("filter: {}, pagination: { page: 2, perPage: 4 }"),
        users(5, 6, total=6),
    ),
    (listed("filter: {}, pagination: { page: 3, perPage: 3 }"), users(total=6)),
    (
        listed("filter: {}, pagination: { page: 3, perPage: 4 }"),
        error(416, "PGRST103", message="Requested range not satisfiable"),
    ),
    # Orders: nulls where Postgres has them, or where the client asks for them.
    (
        listed("filter: {}, sort: { field: 'signup_date,user_id', order: 'ASC' }"),
        users(1, 2, 4, 6, 5, 3),
    ),
    (
        listed("filter: {}, sort: { field: 'id', order: 'DESC' }"),
        users(6, 5, 4, 3, 2, 1),
    ),
    (
        listed(
            "filter: { 'user_id@lt': 4 }, sort: { field: 'signup_date', order: 'DESC' }"
        ),
        users(3, 2, 1),
    ),
    (
        listed(
            "filter: { 'user_id@lt': 4 },"
            " sort: { field: 'signup_date', order: 'DESC' },"
            " meta: { columns: 'user_id', nullslast: true }"
        ),
        users(2, 1, 3),
    ),
    (
        f"provider(['user_id'], {{ sortOrder: 'asc.nullsfirst,desc.nullslast' }})"
        f".getList('features', {{ {PAGE}, {NUMBERS}, filter: {{ 'user_id@lt': 4 }},"
        " sort: { field: 'signup_date', order: 'ASC' } })",
        users(3, 1, 2),
    ),
    # Other counts and schemas.
    (
        listed(
            "filter: {}, meta: { columns: 'user_id',"
            " headers: { Prefer: 'count=estimated' } }"
        ),
        users(1, 2, 3, 4, 5, 6),
    ),
    (
        listed(
            "filter: { user_id: 1 }, meta: { columns: 'user_id', schema: 'public' }"
        ),
        users(1),
    ),
    (
        f"provider(['user_id'], {{ schema: () => 'other' }})"
        f".getList('features', {{ {PAGE}, {BY_ID}, filter: {{}} }})",
        error(406, "PGRST106"),
    ),
    # One record.
    (
        "keyed.getOne('features', { id: 1, meta: { columns: ['user_id', 'name'] } })",
        data({"user_id": 1, "name": "Ada Lovelace", "id": 1}),
    ),
    (
        "keyed.getOne('features', { id: 99 })",
        error(406, "PGRST116", message=SINGULAR),
    ),
    ("keyed.getOne('features', { id: 'x' })", error(400, "22P02")),
    # Records by their keys; in which order is for react-admin.
    (
        f"keyed.getMany('features', {{ ids: [1], {NUMBERS} }})",
        records(1),
    ),
    (f"keyed.getMany('features', {{ ids: [1, 3, 99], {NUMBERS} }})", records(1, 3)),
    ("keyed.getMany('features', { ids: [] })", records()),
    (
        f"keyed.getMany('features', {{ ids: [...Array(3000).keys()], {NUMBERS} }})",
        records(1, 2, 3, 4, 5, 6),
    ),
    # Records that refer to one.
    (
        f"keyed.getManyReference('features', {{ {PAGE}, {NUMBERS}, filter: {{}},"
        " target: 'most_common_compound_id', id: 2,"
        " sort: { field: 'user_id', order: 'DESC' } })",
        users(5, 2),
    ),
    (
        "keyed.getManyReference('features', { pagination: { page: 2, perPage: 1 },"
        f" {NUMBERS}, filter: {{ 'active@is': true }}, target: 'signup_date',"
        f" id: '2024-01-02', {BY_ID} }})",
        users(total=1),
    ),
    # A key of two columns, which the client writes as JSON.
    (
        "pairs.getOne('features', { id: '[1,3]', meta: { columns: 'name,user_id,"
        "most_common_compound_id' } })",
        data(
            {
                "name": "Zoë O'Neil",
                "user_id": 3,
                "most_common_compound_id": 1,
                "id": "[1,3]",
            }
        ),
    ),
    (
        "pairs.getMany('features', { ids: ['[1,1]', '[2,5]', '[2,1]'], meta: {"
        " columns: ['user_id', 'most_common_compound_id'] } })",
        data(
            [
                {"user_id": 1, "most_common_compound_id": 1, "id": "[1,1]"},
                {"user_id": 5, "most_common_compound_id": 2, "id": "[2,5]"},
            ]
        ),
    ),
    ("keyed.getOne('nope', { id: 1 })", error(404, "PGRST205")),
]

#: Calls that cannot apply here: the table is filled by runs alone, and is the only one,
#: so that there is nothing to embed, and no function.
INAPPLICABLE = [
    ("keyed.create('features', { data: { name: 'x' } })", error(405, "PGRST117")),
    (
        "keyed.update('features', { id: 1, data: { name: 'x' }, previousData: {} })",
        error(405, "PGRST117"),
    ),
    (
        "keyed.updateMany('features', { ids: [1, 2], data: { name: 'x' } })",
        error(405, "PGRST117"),
    ),
    ("keyed.delete('features', { id: 1 })", error(405, "PGRST117")),
    ("keyed.deleteMany('features', { ids: [1, 2] })", error(405, "PGRST117")),
    (
        "keyed.getOne('features', { id: 1, meta: { embed: ['other'] } })",
        error(400, "PGRST200"),
    ),
    ("keyed.getOne('rpc/nope', { id: 1 })", error(404, "PGRST202")),
]

ANSWERS: dict[str, Answer] = dict([*CALLS, *INAPPLICABLE])

Results = dict[str, Any]


@pytest.fixture(scope="module")
def results(url: str, packages: Path) -> Results:
    """What all calls came to, made by one process."""
    found = drive(packages, "ra-data-postgrest", url, [*ANSWERS])
    return dict(zip(ANSWERS, found, strict=True))


def got(result: Any) -> Got:
    sent = result["requests"]
    if thrown := result.get("thrown"):
        members = {**(thrown.get("body") or {}), "message": thrown["message"]}
        return Got(thrown.get("status"), error=members, sent=sent)
    resolved = result["resolved"]
    return Got(None, resolved["data"], resolved.get("total"), sent=sent)


@pytest.mark.parametrize("call", ANSWERS, ids=str)
def test_calls(results: Results, call: str) -> None:
    require(ANSWERS[call], got(results[call]))
