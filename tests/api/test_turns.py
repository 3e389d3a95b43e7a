"""Long queries that one client sends at once: others have their turn in between."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from etl.api.answers import TURNS, in_turn
from etl.postgres.shares import Shares
from etl.reading.query import MAX_CACHED


@pytest.mark.parametrize(("length", "at_once"), [(MAX_CACHED // 2, 5), (MAX_CACHED, 1)])
async def test_one_long_query_of_a_client_is_parsed_before_others_have_their_turn(
    length: int, at_once: int
) -> None:
    app = web.Application()
    app[TURNS] = Shares(1)
    request = make_mocked_request("GET", f"/features?or={'x' * length}", app=app)
    turn = 0
    parsing = asyncio.gather(*(in_turn(request, lambda: turn) for _ in range(5)))
    while not parsing.done():
        await asyncio.sleep(0)
        turn += 1
    turns = await parsing
    assert max(turns.count(each) for each in turns) == at_once
