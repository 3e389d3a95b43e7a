"""The grammar: each rule of PostgREST's documentation, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import BadParameter
from etl.reading.catalog import Catalog, Column
from etl.reading.grammar import (
    parse_filter,
    parse_junction,
    parse_order,
    parse_select,
)
from etl.reading.tree import Filter, Item, Junction, Term

TYPES = {
    **{"id": "bigint", "name": "text", "extra": "jsonb", "old": "json"},
    **{"tags": "text[]", "full name": "text", "a-b": "text", 'o.d"d': "text"},
}
CATALOG = Catalog(
    tuple(
        Column(name, kind, name == "id", None, None, kind)
        for name, kind in TYPES.items()
    ),
    "digest",
    "public",
)


def item(of: Item) -> str:
    """An item in a notation of its own, to compare with."""
    text = "rows"
    if of.field:
        path = "".join(f"{arrow}{key!r}" for arrow, key in of.field.path)
        text = f"{of.field.column.name}{path}"
    text += f"::{of.cast}" if of.cast else ""
    text = f"{of.aggregate}({text})" if of.aggregate else text
    text += f"::{of.aggregate_cast}" if of.aggregate_cast else ""
    return f"{of.name}={text}"


def condition(of: Filter | Junction) -> str:
    """A condition in a notation of its own."""
    if isinstance(of, Junction):
        text = f" {of.operator} ".join(map(condition, of.conditions))
        return f"{'not' if of.is_negated else ''}({text})"
    path = "".join(f"{arrow}{key!r}" for arrow, key in of.field.path)
    modifier = f"({of.modifier})" if of.modifier else ""
    negation = "not " if of.is_negated else ""
    return f"{negation}{of.field.column.name}{path} {of.operator}{modifier} {of.value}"


def term(of: Term) -> str:
    """A term in a notation of its own."""
    path = "".join(f"{arrow}{key!r}" for arrow, key in of.field.path)
    nulls = "first" if of.nulls_first else "last"
    return f"{of.field.column.name}{path} {'desc' if of.descending else 'asc'} {nulls}"


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("id,name", "id=id name=name"),
        (" id , name ", "id=id name=name"),
        ("id,id,name", "id=id name=name"),
        ("n:name", "n=name"),
        ("n:name,id,n:id::text", "n=id::text id=id"),
        ("id::text", "id=id::text"),
        ("n:id::double precision", "n=id::double precision"),
        ("id::timestamp with time zone", "id=id::timestamp with time zone"),
        ("full name", "full name=full name"),
        ("a-b", "a-b=a-b"),
        (r'"o.d\"d"', 'o.d"d=o.d"d'),
        (r'"x,y":id', "x,y=id"),
        ("extra->a", "a=extra->'a'"),
        ("extra->a->>b-c", "b-c=extra->'a'->>'b-c'"),
        ("extra->0", "extra=extra->0"),
        ("extra->a->-1", "a=extra->'a'->-1"),
        ('extra->"x,y"', "x,y=extra->'x,y'"),
        ("extra->>a::int", "a=extra->>'a'::int"),
        ("tags->0", "tags=tags->0"),
        ("count()", "count=count(rows)"),
        ("count", "count=count(rows)"),
        ("n:count()::text", "n=count(rows)::text"),
        ("id.sum()", "sum=sum(id)"),
        ("s:extra->>a::int.sum()::text", "s=sum(extra->>'a'::int)::text"),
        ("id.max(),id.min(),id.avg()", "max=max(id) min=min(id) avg=avg(id)"),
        ("id.count()", "count=count(id)"),
    ],
)
def test_select(text: str, items: str) -> None:
    assert " ".join(map(item, parse_select(CATALOG, text))) == items


@pytest.mark.parametrize("text", ["", "*", " * ", "*,id", "id,*"])
def test_every_column_is_selected_once(text: str) -> None:
    assert {each.name for each in parse_select(CATALOG, text)} == set(TYPES)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("id", "id asc last"),
        ("id.desc", "id desc first"),
        ("id.desc.nullslast,name.nullsfirst", "id desc last, name asc first"),
        ("id,name,id.desc", "id asc last, name asc last"),
        ("extra->a->>b.desc", "extra->'a'->>'b' desc first"),
        (r'"o.d\"d".asc', 'o.d"d asc last'),
    ],
)
def test_order(text: str, terms: str) -> None:
    assert ", ".join(map(term, parse_order(CATALOG, text))) == terms


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("id", "eq.1", "id eq 1"),
        ("id", "not.gte.1", "not id gte 1"),
        ("name", 'eq."a"', 'name eq "a"'),
        ("name", "like.a*", "name like a%"),
        ("name", "match.a*", "name match a*"),
        ("name", "like(any).{a*,*b}", "name like(any) {a%,%b}"),
        ("id", "gt(all).{1,2}", "id gt(all) {1,2}"),
        ("id", "in.(1,2)", 'id in {"1","2"}'),
        ("id", "in.()", "id in {}"),
        ("name", 'in.("a,b",c d,"e")', 'name in {"a,b","c d","e"}'),
        ("name", r'in.("a\"\\",b)', r'name in {"a\"\\","b"}'),
        ("name", 'in.(a"b,)', r'name in {"a\"b",""}'),
        ("name", 'in.( "a,b", c)', 'name in {"a,b"," c"}'),
        ("name", "is.NOT_NULL", "name is not_null"),
        ("name", "isdistinct.x", "name isdistinct x"),
        ("name", "fts(english).a & b", "name fts(english) a & b"),
        ("name", "not.wfts.a b", "not name wfts a b"),
        ("tags", "cs.{a,b}", "tags cs {a,b}"),
        ("extra->a", "eq.1", "extra->'a' eq 1"),
        ("name[1]", "eq.x", "name eq x"),
        ("name[0][1]", "eq.x", "name eq x"),
        (r'"o.d\"d"', "eq.x", 'o.d"d eq x'),
    ],
)
def test_filter(name: str, text: str, expected: str) -> None:
    assert condition(parse_filter(CATALOG, name, text)) == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("or", "(id.eq.1,name.is.null)", "(id eq 1 or name is null)"),
        ("not.and", "( id.eq.1 , id.lt.5 )", "not(id eq 1  and id lt 5 )"),
        (
            "and",
            "(or(id.eq.1,not.and(id.gt.2,id.lt.5)),name.not.eq.x)",
            "((id eq 1 or not(id gt 2 and id lt 5)) and not name eq x)",
        ),
        ("or", '(name.eq."a,(b)",id.in.(1,2))', '(name eq a,(b) or id in {"1","2"})'),
        ("or", "(tags.cs.{a,b},extra->>a.eq.1)", "(tags cs {a,b} or extra->>'a' eq 1)"),
        ("or", '(tags.ov.{"a,b"},id.eq.1)', '(tags ov {"a,b"} or id eq 1)'),
    ],
)
def test_junctions(name: str, text: str, expected: str) -> None:
    assert condition(parse_junction(CATALOG, name, text)) == expected


@pytest.mark.parametrize(
    ("name", "text", "message", "details"),
    [
        (
            "id",
            "0",
            '"failed to parse filter (0)" (line 1, column 1)',
            'unexpected "0" expecting "not" or operator (eq, gt, ...)',
        ),
        (
            "or",
            "()",
            '"failed to parse logic tree (())" (line 1, column 4)',
            'unexpected ")" expecting field name (* or [a..z0..9_$]), negation operator'
            " (not) or logic operator (and, or)",
        ),
        # What is no condition is that, and no column that is unknown.
        (
            "or",
            "(xor(id.eq.1))",
            '"failed to parse logic tree ((xor(id.eq.1)))" (line 1, column 7)',
            'unexpected "(" expecting delimiter (.)',
        ),
        (
            "or",
            "(id.eq.1,not.xor(id.eq.2))",
            '"failed to parse logic tree ((id.eq.1,not.xor(id.eq.2)))" (line 1,'
            " column 16)",
            'unexpected "x" expecting "not" or operator (eq, gt, ...)',
        ),
        (
            "or",
            "(id.eq.1",
            '"failed to parse logic tree ((id.eq.1)" (line 1, column 11)',
            'unexpected end of input expecting "," or ")"',
        ),
    ],
)
def test_errors_are_worded_as_postgrest_does(
    name: str, text: str, message: str, details: str
) -> None:
    parse = parse_junction if name == "or" else parse_filter
    with pytest.raises(BadParameter) as caught:
        parse(CATALOG, name, text)
    expected = {"code": "PGRST100", "message": message, "details": details}
    assert caught.value.members == expected


@pytest.mark.parametrize(
    "cast",
    [
        *("text union all select query from pg_stat_activity", "int is null", "int or"),
        *("double precision precision", "text collate", "1", "$a", "", " ", "a b"),
        *("timestamp with time zone with time zone", "int)", "setof text"),
    ],
)
def test_a_cast_is_to_a_type_alone(cast: str) -> None:
    for text in (f"id::{cast}", f"count()::{cast}", f"id.sum()::{cast}"):
        with pytest.raises(BadParameter):
            parse_select(CATALOG, text)


WORDS = (
    *("id", "name", "extra", '"', "\\", ",", ".", "(", ")", "{", "}", ":", "::"),
    *("->", "->>", "eq", "in", "is", "not", "or", "and", "null", "a b", "-", "*"),
    *("count()", ".sum()", "like(any)", "0", " ", "\n", "é", "fts(x)", "!"),
)
PIECES = st.lists(st.sampled_from(WORDS), max_size=12).map("".join)


@given(PIECES, PIECES)
def test_any_text_is_parsed_or_refused(name: str, text: str) -> None:
    for parse in (parse_select, parse_order):
        with suppress_refusal():
            parse(CATALOG, text)
    for junction in (f"or{text}", text):
        with suppress_refusal():
            parse_junction(CATALOG, "or", junction)
    with suppress_refusal():
        parse_filter(CATALOG, name, text)
    with suppress_refusal():
        parse_filter(CATALOG, "id", text)


class suppress_refusal:
    """Suppresses refusals, and checks that each says something in one line."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        return isinstance(error, BadParameter) and bool(str(error))


LONG = (
    *(" ", "\t", "a ", "a-", "->a", "->>0", '"', '"a" ', "\\", ",", "a,", "a:", "::a"),
    *(
        "!a",
        "(",
        "{",
        "{}",
        ".",
        "a.",
        "and(",
        "not.",
        'in.("a",',
        'eq."',
        "count()",
        "*",
    ),
)


@pytest.mark.parametrize("piece", LONG)
def test_a_long_text_is_read_once(piece: str) -> None:
    """One that is read again for each of its characters would take hours."""
    for before in ("", "id", "id.", "(", "(id.eq.", "in.(", 'in.("', "n:", "eq."):
        text = before + piece * (60_000 // len(piece))
        for parse in (parse_select, parse_order):
            with suppress_refusal():
                parse(CATALOG, f"{text}\0")
        for name in ("or", "id", text):
            with suppress_refusal():
                parse_junction(CATALOG, "or", f"({text}\0")
            with suppress_refusal():
                parse_filter(CATALOG, name, f"{text}\0")
