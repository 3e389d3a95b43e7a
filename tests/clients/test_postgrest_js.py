"""@supabase/postgrest-js reads the table as it reads one of PostgREST.

A call is code of its users. What begins with a dot follows ``db.from("features")``.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest

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
from tests.support.node import drive

pytestmark = pytest.mark.any_postgres

ADA = {
    "user_id": 1,
    "name": "Ada Lovelace",
    "email": "ada@example.com",
    "signup_date": "2024-01-01",
    "total_experiments": 3,
    "avg_experiments": 1.5,
    "experiments_pct": 0.3,
    "most_common_compound_id": 1,
    "most_common_compound_name": "Aspirin",
    "active": True,
    "tags": ["math", "poetry"],
    "scores": [1, 2, 3],
    "span": "[1,10)",
    "profile": {"city": "London", "age": 36, "langs": ["en", "fr"], "pet": None},
    "bio": "The fat cats write programs",
    "bio_words": "'cat':3 'fat':2 'program':5 'write':4",
    "seen_at": "2024-01-01T12:00:00+00:00",
    "mood": "happy",
    "amount": 10.5,
    "first, last (a.b)": "Ada, L",
}

ALL = users(1, 2, 3, 4, 5, 6)

SELECT = [
    (".select().eq('user_id', 1)", rows(ADA)),
    (".select('*').eq('user_id', 1)", rows(ADA)),
    (".select('').eq('user_id', 1)", rows(ADA)),
    (".select('*, n:total_experiments').eq('user_id', 1)", rows({**ADA, "n": 3})),
    (
        ".select('user_id, name').eq('user_id', 3)",
        rows({"user_id": 3, "name": "Zoë O'Neil"}),
    ),
    (".select('name,name').eq('user_id', 1)", rows({"name": "Ada Lovelace"})),
    (
        ".select('id:user_id,who:name').eq('user_id', 1)",
        rows({"id": 1, "who": "Ada Lovelace"}),
    ),
    (
        ".select('total_experiments::text,n:signup_date::text').eq('user_id', 1)",
        rows({"total_experiments": "3", "n": "2024-01-01"}),
    ),
    (
        ".select('\"first, last (a.b)\"').eq('user_id', 1)",
        rows({"first, last (a.b)": "Ada, L"}),
    ),
    (
        ".select('\"name\",x:\"first, last (a.b)\"').eq('user_id', 1)",
        rows({"name": "Ada Lovelace", "x": "Ada, L"}),
    ),
    (
        ".select('scores::text,tags::_text').eq('user_id', 2)",
        rows({"scores": "{2,3}", "tags": []}),
    ),
    (
        ".select('profile->>nope,none:profile->0,profile->langs->9').eq('user_id', 1)",
        rows({"nope": None, "none": None, "langs": None}),
    ),
    (
        ".select('profile->>city,profile->langs').eq('user_id', 1)",
        rows({"city": "London", "langs": ["en", "fr"]}),
    ),
    (
        ".select('age:profile->>age,n:profile->age,profile->langs->>0')"
        ".eq('user_id', 1)",
        rows({"age": "36", "n": 36, "langs": "en"}),
    ),
    (".select('profile->langs->-1').eq('user_id', 1)", rows({"langs": "fr"})),
    (".select('profile->>age::int').eq('user_id', 5)", rows({"age": 100})),
    (
        ".select('scores->0,last:tags->>1').eq('user_id', 1)",
        rows({"scores": 1, "last": "poetry"}),
    ),
]

AGGREGATES = [
    (".select('count()')", rows({"count": 6})),
    (".select('count')", rows({"count": 6})),
    (".select('n:count()::text')", rows({"n": "6"})),
    (".select('name.count()')", rows({"count": 5})),
    (".select('count()').eq('active', true)", rows({"count": 3})),
    (".select('total_experiments.sum()')", rows({"sum": 10})),
    (".select('mean:total_experiments.avg()::int')", rows({"mean": 2})),
    (
        ".select('amount.min(),amount.max()').not('amount', 'is', null)",
        rows({"min": -1, "max": 99999.99}),
    ),
    (
        ".select('a:signup_date.min(),b:signup_date.max()')",
        rows({"a": "2024-01-01", "b": "2024-03-01"}),
    ),
    (".select('profile->age::int.sum()').lt('user_id', 6)", rows({"sum": 165})),
    (
        ".select('s:profile->>age::int.sum()::text').lt('user_id', 6)",
        rows({"s": "165"}),
    ),
    (
        ".select('most_common_compound_id,count(),total_experiments.sum()')"
        ".order('most_common_compound_id')",
        rows(
            {"most_common_compound_id": 1, "count": 2, "sum": 4},
            {"most_common_compound_id": 2, "count": 2, "sum": 4},
            {"most_common_compound_id": 3, "count": 1, "sum": 2},
            {"most_common_compound_id": None, "count": 1, "sum": 0},
        ),
    ),
    (
        ".select('city:profile->>city,n:count()').not('profile->>city', 'is', null)",
        any_order(
            {"city": "London", "n": 2},
            {"city": "Paris", "n": 1},
            {"city": "Rio (de Janeiro)", "n": 1},
        ),
    ),
    (
        ".select('active,count()', { count: 'exact' }).order('active')",
        rows(
            {"active": False, "count": 2},
            {"active": True, "count": 3},
            {"active": None, "count": 1},
        ).of(3),
    ),
]

#: What follows ``.select('user_id')``.
FILTERS = [
    (".eq('name', 'Bob \"Bobby\" Baker, Jr.')", users(2)),
    (".eq('name', '100%_sure\\\\')", users(5)),
    (".eq('name', '')", users()),
    (".eq('total_experiments', 1)", users(3, 5)),
    (".eq('active', true)", users(1, 4, 6)),
    (".eq('mood', 'so, so')", users(2)),
    (".eq('signup_date', '2024-01-02')", users(2, 4)),
    (".eq('seen_at', '2024-01-01T13:00:00+01:00')", users(1)),
    (".eq('amount', 10.5)", users(1, 2)),
    (".eq('scores', '{2,3}')", users(2)),
    (".eq('span', '[1,10)')", users(1)),
    (".eq('profile', '{\"age\": \"old\"}')", users(6)),
    (".eq('profile->>city', 'London')", users(1, 4)),
    (".eq('profile->age', 36)", users(1)),
    (".eq('profile->langs->>0', 'en')", users(1)),
    (".eq('scores->0', 1)", users(1, 5)),
    (".eq('\"first, last (a.b)\"', 'Ada, L')", users(1)),
    (".eq('scores->>0', '1')", users(1, 5)),
    (".eq('scores->-1', 3)", users(1, 2)),
    (".eq('tags->0', '\"math\"')", users(1, 5, 6)),
    (".neq('total_experiments', 3)", users(3, 4, 5, 6)),
    (".neq('most_common_compound_name', 'Aspirin')", users(2, 5)),
    (".gt('total_experiments', 1)", users(1, 2, 6)),
    (".gt('mood', 'happy')", users(2, 3, 6)),
    (".gt('profile->age', 20)", users(1, 5)),
    (".gt('seen_at', '2024-01-01T12:00:00Z')", users(2, 5)),
    (".gte('signup_date', '2024-02-29')", users(5, 6)),
    (".lt('amount', 0.1)", users(6)),
    (".lte('amount', 0.1)", users(3, 6)),
    (".gt('user_id', 2).lt('user_id', 5)", users(3, 4)),
    (".like('name', '%Lovelace')", users(1)),
    (".like('name', '*o*')", users(1, 2, 3, 6)),
    (".like('name', '100\\\\%\\\\_sure\\\\\\\\')", users(5)),
    (".ilike('name', 'CAROL%')", users(6)),
    (".like('name', '%\"Bobby\"%')", users(2)),
    (".likeAllOf('name', ['%a%', '%l%'])", users(1, 6)),
    (".likeAnyOf('name', ['Ada%', 'Zo_ %'])", users(1, 3)),
    (".likeAnyOf('name', ['\"%Baker, %\"', 'Zoë*'])", users(2, 3)),
    (".ilikeAllOf('name', ['%A%', '%C%'])", users(1, 6)),
    (".ilikeAnyOf('name', ['ada%', 'BOB%'])", users(1, 2)),
    (".regexMatch('name', '^[AB]')", users(1, 2)),
    (".regexIMatch('name', '^[abc]')", users(1, 2, 6)),
    (".is('name', null)", users(4)),
    (".is('active', null)", users(3)),
    (".is('active', true)", users(1, 4, 6)),
    (".is('active', false)", users(2, 5)),
    (".is('active', 'unknown')", users(3)),
    (".is('active', 'NOT_NULL')", users(1, 2, 4, 5, 6)),
    (".isDistinct('most_common_compound_name', 'Aspirin')", users(2, 4, 5, 6)),
    (".isDistinct('active', true)", users(2, 3, 5)),
    (".isDistinct('scores', '{2,3}')", users(1, 3, 4, 5, 6)),
    (".in('user_id', [1, 3, 99])", users(1, 3)),
    (".in('user_id', [])", users()),
    (".in('name', ['carol (cc): 1.5', \"Zoë O'Neil\"])", users(3, 6)),
    (".in('mood', ['so, so', 'happy'])", users(1, 2, 5)),
    (".in('user_id', [...Array(3000).keys()])", ALL),
    # The client leaves the quotes of the name as they are: two values, neither known.
    (".in('name', ['Bob \"Bobby\" Baker, Jr.'])", users()),
    (".in('profile->>city', ['Rio (de Janeiro)', 'Paris'])", users(2, 5)),
    (".in('profile->age', [9, 100])", users(2, 5)),
    (".notIn('user_id', [])", ALL),
    (".notIn('user_id', [1, 2])", users(3, 4, 5, 6)),
    (".notIn('most_common_compound_name', ['Aspirin'])", users(2, 5)),
    (".contains('tags', ['poetry'])", users(1, 3)),
    (".contains('tags', ['\"a,b\"', 'math'])", users(6)),
    (".contains('scores', [2, 3])", users(1, 2)),
    (".contains('span', '[2,3)')", users(1, 5)),
    (".contains('profile', { city: 'London' })", users(1, 4)),
    (".containedBy('tags', ['math', 'poetry', 'x'])", users(1, 2, 5)),
    (".containedBy('scores', [1, 2, 3])", users(1, 2, 5, 6)),
    (".containedBy('span', '[0,20)')", users(1, 2, 5, 6)),
    (".containedBy('profile', { city: 'London', age: 20, x: 1 })", users(4)),
    (".rangeGt('span', '[5,8]')", users(2, 3)),
    (".rangeGte('span', '[10,15)')", users(2, 3)),
    (".rangeLt('span', '[10,12)')", users(1, 5)),
    (".rangeLte('span', '[1,10)')", users(1, 5)),
    (".rangeAdjacent('span', '[30,40)')", users(3)),
    (".overlaps('span', '[2,12)')", users(1, 2, 5)),
    (".overlaps('tags', ['poetry', 'math'])", users(1, 3, 5, 6)),
    (".overlaps('scores', [3, 10])", users(1, 2, 3)),
    (".textSearch('bio_words', 'fat')", users(1, 2)),
    (".textSearch('bio_words', 'fat & !rats', { config: 'english' })", users(1)),
    (
        ".textSearch('bio_words', 'the fat cats',"
        " { type: 'plain', config: 'english' })",
        users(1),
    ),
    (
        ".textSearch('bio_words', 'cats and rats',"
        " { type: 'phrase', config: 'english' })",
        users(4),
    ),
    (
        ".textSearch('bio_words', 'fat -cats',"
        " { type: 'websearch', config: 'english' })",
        users(2),
    ),
    (".textSearch('bio', 'amusant', { config: 'french' })", users(6)),
    (".textSearch('bio', 'rats', { type: 'plain', config: 'english' })", users(2, 4)),
    (".textSearch('profile', 'london', { config: 'simple' })", users(1, 4)),
    (".not('bio_words', 'fts(english)', 'fat|impossible')", users(5)),
    (".match({ most_common_compound_id: 1, active: true })", users(1)),
    (".not('name', 'is', null)", users(1, 2, 3, 5, 6)),
    (".not('total_experiments', 'eq', 3)", users(3, 4, 5, 6)),
    (".not('name', 'like', '%a%')", users(3, 5)),
    (".not('user_id', 'in', '(1,2)')", users(3, 4, 5, 6)),
    (".not('tags', 'cs', '{math}')", users(2, 3)),
    (".not('active', 'isdistinct', true)", users(1, 4, 6)),
    (".or('total_experiments.eq.0,name.like.Ada%')", users(1, 4)),
    (".or('user_id.eq.1,and(total_experiments.eq.1,active.is.false)')", users(1, 5)),
    (".or('user_id.eq.1,not.and(user_id.gt.1,user_id.lt.6)')", users(1, 6)),
    (".or('name.not.is.null,user_id.eq.4')", ALL),
    ('.or(\'name.eq."Bob \\\\"Bobby\\\\" Baker, Jr.",user_id.eq.6\')', users(2, 6)),
    (".or('scores.cs.{1,2},span.cd.\"[10,25)\"')", users(1, 2, 6)),
    (".or('user_id.in.(1,2),mood.in.(\"so, so\",sad)')", users(1, 2, 3, 6)),
    (".or('profile->>city.eq.Paris,bio_words.fts(english).cat')", users(1, 2, 4)),
    (".or('name.like(any).{Ada*,Zoë*},user_id.eq.5')", users(1, 3, 5)),
    (".or('user_id.eq.1, user_id.eq.2').or('active.is.true')", users(1)),
    (".or('name.eq.,user_id.eq.1')", users(1)),
    (".or('tags.ov.{poetry,\"a,b\"},user_id.eq.2')", users(1, 2, 3, 6)),
    (".or('seen_at.gt.2024-01-01T12:00:00+00:00,amount.lt.-0.5')", users(2, 5, 6)),
    (".or(' user_id.eq.1 , and( user_id.gt.4 , active.is.true ) ')", users(1, 6)),
    (".or('not.or(user_id.lt.3,user_id.gt.4),name.isdistinct.x')", ALL),
    (".filter('name', 'ilike', '%ADA%')", users(1)),
    (".filter('user_id', 'not.in', '(1,2)')", users(3, 4, 5, 6)),
    (".filter('user_id', 'in', '( 1, 2 )')", users(1, 2)),
    (".filter('user_id', 'in', '(    )')", users()),
    (
        ".filter('name', 'in', '(Ada Lovelace,\"Bob \\\\\"Bobby\\\\\" Baker, Jr.\")')",
        users(1, 2),
    ),
    (".filter('name', 'in', '(\"c\\\\arol (cc): 1.5\")')", users(6)),
    (".filter('name', 'in', '(100%_sure\\\\)')", users(5)),
    (".filter('name', 'eq(any)', '{\"Ada Lovelace\",\"Zoë O\\'Neil\"}')", users(1, 3)),
    (".filter('user_id', 'gt(all)', '{2,4}')", users(5, 6)),
    (".filter('email', 'match(any)', '{^ada,^bob}')", users(1, 2)),
    (".filter('email', 'not.imatch', '^[A-C]')", users(3, 5)),
]

#: What follows ``.select('user_id')``.
ORDER_AND_PAGES = [
    (
        ".order('total_experiments', { ascending: false }).order('user_id')",
        in_order(1, 2, 6, 3, 5, 4),
    ),
    (".order('signup_date').order('user_id')", in_order(1, 2, 4, 6, 5, 3)),
    (
        ".order('signup_date', { nullsFirst: true }).order('user_id')",
        in_order(3, 1, 2, 4, 6, 5),
    ),
    (
        ".order('signup_date', { ascending: false }).order('user_id')",
        in_order(3, 5, 6, 2, 4, 1),
    ),
    (
        ".order('signup_date', { ascending: false, nullsFirst: false })"
        ".order('user_id', { ascending: false })",
        in_order(5, 6, 4, 2, 1, 3),
    ),
    (
        ".order('profile->age', { ascending: false, nullsFirst: false })",
        in_order(5, 1, 4, 2, 6, 3),
    ),
    (".order('\"first, last (a.b)\"').order('user_id')", in_order(1, 2, 3, 4, 5, 6)),
    (".order('mood').order('user_id')", in_order(1, 5, 2, 3, 6, 4)),
    (".order('profile->>city').order('user_id')", in_order(1, 4, 2, 5, 3, 6)),
    (".order('scores->0', { nullsFirst: false }).limit(1)", in_order(1)),
    (".order('user_id').limit(2)", in_order(1, 2)),
    (".limit(0)", in_order()),
    (".order('user_id').range(1, 3)", in_order(2, 3, 4)),
    (".order('user_id').range(4, 9)", in_order(5, 6)),
    (".range(10, 20)", in_order()),
    (
        ".order('user_id').setHeader('Range-Unit', 'items').setHeader('Range', '1-2')",
        in_order(2, 3),
    ),
    (".order('user_id').setHeader('Range', '4-')", in_order(5, 6)),
    (".order('user_id').limit(3).setHeader('Range', '1-5')", in_order(2, 3)),
    (".setHeader('Range', '2-1')", error(416, "PGRST103")),
    (".limit(-1)", error(416, "PGRST103")),
    (".range(3, 1)", error(416, "PGRST103")),
]

COUNTS = [
    # The planner's estimates are of a table that was analyzed.
    (".select('user_id', { count: 'planned' })", ALL.of(6)),
    (".select('*', { head: true, count: 'planned' })", data(None).of(6)),
    (
        ".select('user_id', { count: 'planned' }).order('user_id').range(0, 2)",
        in_order(1, 2, 3).of(6, 206),
    ),
    (".select('user_id', { count: 'exact' })", ALL.of(6)),
    (".select('user_id', { count: 'estimated' })", ALL.of(6)),
    (".select('user_id', { count: 'exact' }).eq('user_id', 99)", users().of(0)),
    (
        ".select('user_id', { count: 'exact' }).order('user_id').limit(2)",
        in_order(1, 2).of(6, 206),
    ),
    (
        ".select('user_id', { count: 'exact' }).eq('active', true)"
        ".order('user_id').range(1, 1)",
        in_order(4).of(3, 206),
    ),
    (".select('user_id', { count: 'exact' }).range(6, 10)", users().of(6, 206)),
    (
        ".select('user_id', { count: 'exact' }).range(10, 20)",
        error(
            416,
            "PGRST103",
            message="Requested range not satisfiable",
            details="An offset of 10 was requested, but there are only 6 rows.",
            hint=None,
        ),
    ),
    (".select('*', { head: true })", data(None)),
    (".select('*', { head: true, count: 'exact' })", data(None).of(6)),
    (".select('*', { head: true, count: 'estimated' })", data(None).of(6)),
    (
        ".select('*', { head: true, count: 'exact' }).eq('active', true)",
        data(None).of(3),
    ),
    (".select('*', { head: true, count: 'exact' }).limit(2)", data(None).of(6, 206)),
    (
        ".select('*', { head: true, count: 'exact' }).setHeader('Range', '0-1')",
        data(None).of(6),
    ),
    (".select('user_id', { count: 'exact' }).limit(0)", in_order().of(6, 206)),
    (
        ".select('user_id', { count: 'exact' }).eq('user_id', 1).single()",
        data({"user_id": 1}).of(1),
    ),
]

SINGULAR = {"message": "Cannot coerce the result to a single JSON object", "hint": None}

SHAPES = [
    (".select('user_id').eq('user_id', 1).single()", data({"user_id": 1})),
    (".select('user_id').order('user_id').limit(1).single()", data({"user_id": 1})),
    (
        ".select('user_id').eq('user_id', 99).single()",
        error(406, "PGRST116", details="The result contains 0 rows", **SINGULAR),
    ),
    (
        ".select('user_id').single()",
        error(406, "PGRST116", details="The result contains 6 rows", **SINGULAR),
    ),
    (".select('user_id').eq('user_id', 1).maybeSingle()", data({"user_id": 1})),
    (".select('user_id').eq('user_id', 99).maybeSingle()", data(None)),
    (".select('user_id').maybeSingle()", error(406, "PGRST116")),
    (
        ".select('user_id').eq('user_id', 1)"
        ".setHeader('Accept', 'application/vnd.pgrst.object')",
        data({"user_id": 1}),
    ),
    (
        ".select('user_id').eq('user_id', 1)"
        ".setHeader('Accept', 'application/vnd.pgrst.array+json')",
        users(1),
    ),
    (
        ".select('user_id').eq('user_id', 1).setHeader('Accept', 'text/unknown, */*')",
        users(1),
    ),
    (
        ".select('user_id').eq('user_id', 1)"
        ".setHeader('Accept', 'application/vnd.pgrst.object+json, application/json')",
        data({"user_id": 1}),
    ),
    (
        ".select('user_id,signup_date').in('user_id', [3, 4]).order('user_id')"
        ".stripNulls()",
        rows({"user_id": 3}, {"user_id": 4, "signup_date": "2024-01-02"}),
    ),
    (
        ".select('profile,name').eq('user_id', 1).stripNulls().single()",
        data(
            {
                "profile": {"city": "London", "age": 36, "langs": ["en", "fr"]},
                "name": "Ada Lovelace",
            }
        ),
    ),
    (".select('user_id').stripNulls().single()", error(406, "PGRST116")),
    (".select('user_id').eq('user_id', 1).returns()", users(1)),
    (".select('user_id').eq('user_id', 1).overrideTypes()", users(1)),
    (".select('user_id').eq('user_id', 1).throwOnError()", users(1)),
    (".select('user_id').eq('user_id', 1).retry(false)", users(1)),
    (".select('user_id').eq('user_id', 1).rollback()", users(1)),
    (".select('user_id').lt('user_id', 3).maxAffected(1)", users(1, 2)),
    (
        ".select('user_id').eq('user_id', 1).abortSignal(new AbortController().signal)",
        users(1),
    ),
    (
        "db.schema('public').from('features').select('user_id').eq('user_id', 1)",
        users(1),
    ),
    (".select('user_id').eq('user_id', 1).setHeader('Prefer', 'foo')", users(1)),
    (
        ".select('user_id').eq('user_id', 1)"
        ".setHeader('Prefer', 'handling=lenient, foo')",
        users(1),
    ),
    (
        ".select('seen_at').eq('user_id', 1)"
        ".setHeader('Prefer', 'timezone=America/Los_Angeles')",
        rows({"seen_at": "2024-01-01T04:00:00-08:00"}),
    ),
]

ERRORS = [
    (
        ".select('nope')",
        error(400, "42703", message="column features.nope does not exist"),
    ),
    (".select().eq('nope', 1)", error(400, "42703")),
    (".select().order('nope')", error(400, "42703")),
    (".select().or('user_id.eq.1,nope.eq.2')", error(400, "42703")),
    (".select('count(),nope')", error(400, "42703")),
    (".select('nope').single()", error(400, "42703")),
    (".select('nope').csv()", error(400, "42703")),
    (".select('user_id::nope')", error(400, "42704")),
    (
        ".select().eq('user_id', 'x')",
        error(
            400, "22P02", message='invalid input syntax for type bigint: "x"', hint=None
        ),
    ),
    (".select().in('user_id', [1, 'x'])", error(400, "22P02")),
    (".select().filter('user_id', 'in', '( ,3,4)')", error(400, "22P02")),
    (".select().eq('user_id', '99999999999999999999')", error(400, "22003")),
    (".select().eq('signup_date', 'x')", error(400, "22007")),
    (".select().eq('signup_date', '2024-13-01')", error(400, "22008")),
    (".select().isDistinct('signup_date', null)", error(400, "22007")),
    (".select().eq('active', 'maybe')", error(400, "22P02")),
    (".select().eq('mood', 'x')", error(400, "22P02")),
    (".select().eq('scores', 'x')", error(400, "22P02")),
    (".select().contains('profile', 'x')", error(400, "22P02")),
    (".select().rangeGt('span', 'x')", error(400, "22P02")),
    (".select().regexMatch('name', '(')", error(400, "2201B")),
    (".select().textSearch('bio_words', 'fat cats')", error(400, "42601")),
    (".select().textSearch('bio', 'x', { config: 'klingon' })", error(400, "42704")),
    (".select().is('name', true)", error(400, "42804")),
    # An operator or a function that the type lacks is 404, as an unknown function is.
    (".select().like('user_id', '1%')", error(404, "42883")),
    (".select().contains('name', 'x')", error(404, "42883")),
    (".select('name.sum()')", error(404, "42883")),
    # Of six rows the last has an age that is no number.
    (".select('profile->>age::int').order('user_id')", error(400, "22P02")),
    (".select('profile->>age::int').order('user_id').csv()", error(400, "22P02")),
    (".select('user_id,')", error(400, "PGRST100")),
    (".select('profile->')", error(400, "PGRST100")),
    (".select('total_experiments.median()')", error(400, "PGRST100")),
    (".select().filter('user_id', 'nope', 1)", error(400, "PGRST100")),
    (".select().is('active', 'nil')", error(400, "PGRST100")),
    (".select().or('')", error(400, "PGRST100")),
    (".select().or('user_id.eq.1,')", error(400, "PGRST100")),
    (".select().order('user_id.sideways')", error(400, "PGRST100")),
    (".select().filter('user_id', 'in', '1,2')", error(400, "PGRST100")),
    (
        "db.from('nope').select()",
        error(
            404,
            "PGRST205",
            message="Could not find the table 'public.nope' in the schema cache",
        ),
    ),
    ("db.schema('other').from('features').select()", error(406, "PGRST106")),
    (
        ".select().setHeader('Prefer', 'handling=strict, foo')",
        error(
            400,
            "PGRST122",
            message="Invalid preferences given with handling=strict",
            details="Invalid preferences: foo",
        ),
    ),
    (
        ".select().setHeader('Prefer', 'handling=lenient, timezone=Nowhere/None')",
        error(
            400,
            "22023",
            message='invalid value for parameter "TimeZone": "Nowhere/None"',
        ),
    ),
    (
        ".select().geojson()",
        error(
            406,
            "PGRST107",
            message="None of these media types are available: application/geo+json",
            details=None,
            hint=None,
        ),
    ),
    (".select().explain()", error(406, "PGRST107")),
    (".select().explain({ analyze: true, format: 'json' })", error(406, "PGRST107")),
    (".select().setHeader('Accept', 'text/unknown')", error(406, "PGRST107")),
]

READ_ONLY = "the table is filled by runs alone"
NO_FUNCTIONS = "the service offers no functions of the database"
ONE_TABLE = "the service offers one table: there is nothing to embed"

#: Calls of PostgREST that cannot apply here, with the reason, and the error they get.
INAPPLICABLE = [
    (
        READ_ONLY,
        ".insert({ user_id: 7 })",
        error(405, "PGRST117", message="Unsupported HTTP method: POST"),
    ),
    (READ_ONLY, ".insert([{ user_id: 7 }]).select()", error(405, "PGRST117")),
    (READ_ONLY, ".upsert({ user_id: 1, name: 'x' })", error(405, "PGRST117")),
    (READ_ONLY, ".update({ name: 'x' }).eq('user_id', 1)", error(405, "PGRST117")),
    (READ_ONLY, ".delete().eq('user_id', 1)", error(405, "PGRST117")),
    (NO_FUNCTIONS, "db.rpc('nope')", error(404, "PGRST202")),
    (NO_FUNCTIONS, "db.rpc('nope', { a: 1 }, { get: true })", error(404, "PGRST202")),
    (
        ONE_TABLE,
        ".select('user_id,other(*)')",
        error(
            400,
            "PGRST200",
            message="Could not find a relationship between 'features' and 'other' in"
            " the schema cache",
            details="Searched for a foreign key relationship between 'features' and"
            " 'other' in the schema 'public', but no matches were found.",
            hint=None,
        ),
    ),
    (ONE_TABLE, ".select('user_id,...other(name)')", error(400, "PGRST200")),
    (
        ONE_TABLE,
        ".select().eq('other.name', 'x')",
        error(
            400,
            "PGRST108",
            message="'other' is not an embedded resource in this request",
            hint="Verify that 'other' is included in the 'select' query parameter.",
        ),
    ),
    (
        ONE_TABLE,
        ".select().or('a.eq.1', { referencedTable: 'other' })",
        error(400, "PGRST108"),
    ),
    (
        ONE_TABLE,
        ".select().order('a', { referencedTable: 'other' })",
        error(400, "PGRST108"),
    ),
    (ONE_TABLE, ".select().order('other(a)')", error(400, "PGRST108")),
]

CSV = (
    ".select('user_id,name,signup_date', { count: 'exact' })"
    ".lte('user_id', 4).order('user_id').csv()"
)
ABORTED = ".select().abortSignal(AbortSignal.abort())"
THROWN = ".select('nope').throwOnError()"
HEAD_OF_AN_ERROR = ".select('nope', { head: true })"
OPENAPI = "db.getOpenApiSpec()"

ANSWERS: dict[str, Answer] = {
    **dict(SELECT),
    **dict(AGGREGATES),
    **{f".select('user_id'){call}": answer for call, answer in FILTERS},
    **{f".select('user_id'){call}": answer for call, answer in ORDER_AND_PAGES},
    **dict(COUNTS),
    **dict(SHAPES),
    **dict(ERRORS),
    **{call: answer for _, call, answer in INAPPLICABLE},
}

OTHERS = [CSV, ABORTED, THROWN, HEAD_OF_AN_ERROR, OPENAPI]

Results = dict[str, Any]


@pytest.fixture(scope="module")
def results(url: str, packages: Path) -> Results:
    """What all calls came to, made by one process."""
    calls = [*ANSWERS, *OTHERS]
    code = [re.sub(r"\A\.", 'db.from("features").', call) for call in calls]
    return dict(zip(calls, drive(packages, "postgrest-js", url, code), strict=True))


def got(result: Any) -> Got:
    resolved = result["resolved"]
    return Got(
        resolved["status"],
        resolved["data"],
        resolved["count"],
        resolved["error"],
        result["requests"],
    )


@pytest.mark.parametrize("call", ANSWERS, ids=str)
def test_calls(results: Results, call: str) -> None:
    require(ANSWERS[call], got(results[call]))


def test_csv(results: Results) -> None:
    found = got(results[CSV])
    assert (found.status, found.count) == (200, 4), found
    assert list(csv.reader(io.StringIO(found.data))) == [
        ["user_id", "name", "signup_date"],
        ["1", "Ada Lovelace", "2024-01-01"],
        ["2", 'Bob "Bobby" Baker, Jr.', "2024-01-02"],
        ["3", "Zoë O'Neil", ""],
        ["4", "", "2024-01-02"],
    ]


def test_aborting(results: Results) -> None:
    found = got(results[ABORTED])
    assert found.status == 0
    assert found.error is not None
    assert found.error["message"].startswith("AbortError")


def test_throwing(results: Results) -> None:
    thrown = results[THROWN]["thrown"]
    assert (thrown["name"], thrown["code"]) == ("PostgrestError", "42703")
    assert thrown["message"] == "column features.nope does not exist"


def test_an_error_that_has_no_body(results: Results) -> None:
    found = got(results[HEAD_OF_AN_ERROR])
    assert (found.status, found.data, found.error) == (400, None, {"message": ""})


def test_the_description_for_programs(results: Results) -> None:
    found = got(results[OPENAPI])
    assert (found.status, found.error) == (200, None), found
    assert "/features" in found.data["paths"]
