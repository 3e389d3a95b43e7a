"""The query language of ``/features``: PostgREST's, as far as it reads one table.

Each rule is one of PostgREST's documentation (Tables and Views, Aggregate Functions).
Names are looked up in the catalog; values stay text, to be cast by Postgres. Knows no
SQL but the names of operators.
"""

from __future__ import annotations

import re

from etl.errors import BadParameter, truncated
from etl.reading.catalog import Catalog
from etl.reading.scanner import UNPARSABLE, Scanner
from etl.reading.tree import (
    AGGREGATES,
    IS_VALUES,
    OPERATORS,
    QUANTIFIABLE,
    RESERVED,
    SEARCHES,
    Field,
    Filter,
    Item,
    Junction,
    Path,
    Term,
)

#: What a filter begins with, in PostgREST's words.
OPERATION = '"not" or operator (eq, gt, ...)'

#: Junctions within junctions, which Python and Postgres read by recursion.
MAX_DEPTH = 100

#: Repetitions are possessive and groups atomic: a text is read once, whatever is in it.
#: One that gives back what it has read takes minutes for a few thousand spaces.
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
_WORD = r"[\w$]++(?: ++[\w$]++)*+"
_NAME = rf"(?>{_QUOTED}|{_WORD}(?:-(?!>){_WORD})*+)"
_KEY = rf"(?>{_QUOTED}|[^(\-:.,>)]++(?:-(?!>)[^(\-:.,>)]++)*+)"

#: An element of a list, quoted as a whole or not at all.
_ELEMENT = rf"(?>{_QUOTED}(?=[,)]|\Z)|[^,)]*)"


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.DOTALL)


NAME = _pattern(_NAME)
_ALIAS = _pattern(rf"\s*+({_NAME})\s*+:(?!:)")
_STEP = _pattern(rf"\s*+(->>?)(?:(-?[0-9]{{1,9}})(?=->|::|[.,)]|\Z)|({_KEY}))")
#: A type by its name: one word, or one of the few that SQL writes as several. More
#: words would be SQL.
_CAST = _pattern(
    r"\s*+::\s*+((?:(?:double precision|(?:character|bit) varying"
    r"|time(?:stamp)? with(?:out)? time zone)|[^\W\d][\w$]*+))\s*+(?=[,.)]|::|\Z)"
)
_COUNT = _pattern(r"\s*+count\(\)")
_ANY_COUNT = _pattern(r"\s*+count(?:\(\)|\s*+(?=,|::|\Z))")
_AGGREGATE = _pattern(rf"\.({'|'.join(AGGREGATES)})\(\)")
_STAR = _pattern(r"\s*+\*\s*+(?=,|\Z)")
_EMBEDDED = _pattern(rf"\s*+(?:\.\.\.)?({_NAME})(?:!{_NAME})*+\(")
_EMBEDDED_FIELD = _pattern(rf"({_NAME})\.")
_DIRECTION = _pattern(r"(?:\.(asc|desc))?(?:\.(nullsfirst|nullslast))?\s*+(?=,|\Z)")
_OPERATION = _pattern(
    rf"(not\.)?(?:({'|'.join(QUANTIFIABLE)})(?:\((any|all)\))?"
    rf"|({'|'.join(SEARCHES)})(?:\(({_WORD})\))?"
    rf"|({'|'.join((*OPERATORS, 'in', 'is'))}))\."
)
_STATE = re.compile("|".join(IS_VALUES), re.IGNORECASE)
_LIST = _pattern(rf"\s*+\(\s*+({_ELEMENT}(?:,{_ELEMENT})*+)\)\s*+")
_ELEMENTS = _pattern(rf"(?:\A|,)({_ELEMENT})(?=,|\Z)")
_JUNCTION = _pattern(r"\s*+(not\.)?(and|or)\s*+\(")
_CLOSING = _pattern(r"\s*+\)\s*+")
_SPACES = _pattern(r"\s*+")
_DOT = _pattern(r"\.")
_COMMA = _pattern(r"\s*+,")
_END = _pattern(r"\s*+\Z")

#: After the name of a filter: some clients number those on one column, as ``name[1]``,
#: and as ``name[0][1]`` if there are more than two.
_NUMBERED = _pattern(r"\s*+(?:\[[0-9]+\])*+\Z")

#: A value up to the end, and one in a junction: quoted, an array, or up to a comma.
_LAST = _pattern(r".*")
_INNER = _pattern(rf"{_QUOTED}(?=\s*+[,)])|\{{[^{{}}]*\}}|[^,)]*")


def parse_select(catalog: Catalog, text: str) -> tuple[Item, ...]:
    """``a,b:c::text,d->e->>f,g.sum()``; every column if it is empty.

    Of values with the same name the last one counts, as it does to readers of JSON
    where PostgREST gives the member twice.
    """
    scanner = Scanner("select parameter", text or "*")
    items: dict[str, Item] = {}
    all_items = {item.name: item for item in every_column(catalog)}
    while True:
        if scanner.take(_STAR):
            items |= all_items
        else:
            item = _item(catalog, scanner)
            items[item.name] = item
        if not scanner.take(_COMMA):
            break
    scanner.expect(_END, '"::", "->", "->>", ".", "," or end of input')
    return tuple(items.values())


def every_column(catalog: Catalog) -> tuple[Item, ...]:
    """The columns of the table under their own names."""
    return tuple(Item(column.name, Field(column)) for column in catalog.columns)


def parse_order(catalog: Catalog, text: str) -> tuple[Term, ...]:
    """``a,b.desc.nullslast``; a field that comes again changes nothing."""
    scanner = Scanner("order", text)
    terms: dict[Field, Term] = {}
    while True:
        if embedded := scanner.take(_EMBEDDED):
            raise _not_embedded(embedded[1])
        field = _field(catalog, scanner)
        found = scanner.expect(_DIRECTION, '"asc", "desc", "nullsfirst" or "nullslast"')
        descending = found[1] == "desc"
        nulls_first = found[2] == "nullsfirst" if found[2] else descending
        terms.setdefault(field, Term(field, descending, nulls_first))
        if not scanner.take(_COMMA):
            return tuple(terms.values())


def parse_filter(catalog: Catalog, name: str, text: str) -> Filter:
    """``name=text``: a field; and an operator, a dot and a value."""
    scanner, names = Scanner("filter", text), Scanner("parameter", name)
    if name not in catalog.by_name and (embedded := names.take(_EMBEDDED_FIELD)):
        raise _not_embedded(embedded[1])
    operation = scanner.take(_OPERATION)
    if operation is None:
        known = name in catalog.by_name or name.startswith('"')
        raise scanner.error(
            OPERATION,
            f"a filter on {name} is operator.value, not {truncated(text)}; operators:"
            f" {', '.join((*OPERATORS, 'in', 'is', *SEARCHES))}, each also after not."
            if known
            else f"unknown parameter {truncated(name)}; allowed: {', '.join(RESERVED)},"
            f" and the columns {catalog.names}",
        )
    if name in catalog.by_name:
        return _filter(scanner, Field(catalog.by_name[name]), operation, _LAST)
    field = _field(catalog, names)
    names.expect(_NUMBERED, '"->", "->>" or end of input')
    return _filter(scanner, field, operation, _LAST)


def parse_junction(catalog: Catalog, name: str, text: str) -> Filter | Junction:
    """``or=(…)`` and ``and=(…)``, whose name may have ``not.`` before it."""
    if not text.lstrip().startswith("("):
        raise Scanner("logic tree", text).error('"("')
    scanner = Scanner("logic tree", name + text, shown=text)
    condition = _condition(catalog, scanner, MAX_DEPTH)
    scanner.expect(_END, "end of input")
    return condition


def unquoted(text: str) -> str:
    """A name or an element of a list without its quotes."""
    if text.startswith('"') and text.endswith('"') and len(text) > 1:
        text = text[1:-1]  # a list may have thousands, mostly without a backslash
        return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL) if "\\" in text else text
    return text


def _item(catalog: Catalog, scanner: Scanner) -> Item:
    alias = scanner.take(_ALIAS)
    cast = field = None
    # An older way to write count() is without parentheses, where that is no column.
    if scanner.take(_COUNT if "count" in catalog.by_name else _ANY_COUNT):
        aggregate: str | None = "count"
    else:
        if embedded := scanner.take(_EMBEDDED):
            related = f"relationship between 'features' and '{embedded[1]}'"
            raise BadParameter(
                f"select: features is one table, and {truncated(embedded[1])} is none"
                " of its columns",
                code="PGRST200",
                message=f"Could not find a {related} in the schema cache",
                details=f"Searched for a foreign key {related} in the schema"
                f" '{catalog.schema}', but no matches were found.",
            )
        field, cast = _field(catalog, scanner), _cast(scanner)
        found = scanner.take(_AGGREGATE)
        aggregate = found and found[1]
    aggregate_cast = _cast(scanner) if aggregate else None
    name = alias and unquoted(alias[1].strip())
    name = name or aggregate or (field.name if field else "")
    return Item(name, field, cast, aggregate, aggregate_cast)


def _cast(scanner: Scanner) -> str | None:
    found = scanner.take(_CAST)
    return found[1].strip() if found else None


def _field(catalog: Catalog, scanner: Scanner) -> Field:
    name, path = _name_and_path(scanner)
    return Field(catalog.find(name), path)


def _name_and_path(scanner: Scanner, others: str = "") -> tuple[str, Path]:
    """What a field is, before its column is looked up; ``others`` may be there too."""
    scanner.take(_SPACES)
    name = scanner.expect(NAME, f"field name (* or [a..z0..9_$]){others}")[0]
    path: list[tuple[str, str | int]] = []
    while step := scanner.take(_STEP):
        arrow, index, key = step.groups()
        path.append((arrow, int(index) if index else unquoted(key.strip())))
    scanner.take(_SPACES)
    return unquoted(name.strip()), tuple(path)


def _condition(catalog: Catalog, scanner: Scanner, depth: int) -> Filter | Junction:
    """A junction or, in one, a filter as ``field.operator.value``."""
    found = scanner.take(_JUNCTION)
    if found is None:
        others = ", negation operator (not) or logic operator (and, or)"
        name, path = _name_and_path(scanner, others)
        scanner.expect(_DOT, "delimiter (.)")
        operation = scanner.expect(_OPERATION, OPERATION)
        # Looked up only now: what is no condition is that, and no unknown column.
        return _filter(scanner, Field(catalog.find(name), path), operation)
    if depth == 0:
        raise BadParameter(
            f"logic tree: over {MAX_DEPTH} parentheses in one another", code=UNPARSABLE
        )
    conditions = [_condition(catalog, scanner, depth - 1)]
    while scanner.take(_COMMA):
        conditions.append(_condition(catalog, scanner, depth - 1))
    scanner.expect(_CLOSING, '"," or ")"')
    return Junction(found[2], tuple(conditions), is_negated=bool(found[1]))


def _filter(
    scanner: Scanner,
    field: Field,
    operation: re.Match[str],
    values: re.Pattern[str] = _INNER,
) -> Filter:
    """The value of an operation that was read, up to the end if it is the last."""
    negated, quantifiable, quantifier, search, language, other = operation.groups()
    operator = quantifiable or search or other
    modifier = quantifier or language
    if operator == "in":
        value = _array(scanner.expect(_LIST, '"(", and then "," or ")"')[1])
    elif operator == "is":
        value = scanner.expect(_STATE, f"isVal: ({', '.join(IS_VALUES)})")[0].lower()
    else:
        value = scanner.expect(values, "a value")[0]
        value = unquoted(value) if values is _INNER else value
    if operator in ("like", "ilike"):
        value = _like(value)
    if values is _LAST:
        scanner.expect(_END, "end of input")
    return Filter(field, operator, value, bool(negated), modifier)


def _like(value: str) -> str:
    """A pattern of LIKE, in which ``*`` is another way to write ``%``."""
    if (len(value) - len(value.rstrip("\\"))) % 2:  # an error only where it is reached
        raise BadParameter(
            f"a pattern must not end in a lone backslash: {truncated(value)}",
            code="22025",
        )
    return value.replace("*", "%")


def _array(elements: str) -> str:
    """A list of elements as Postgres writes an array."""
    found = _ELEMENTS.findall(elements) if elements.strip() else []
    values = (unquoted(each).replace("\\", r"\\").replace('"', r"\"") for each in found)
    return "{{{}}}".format(",".join(f'"{each}"' for each in values))


def _not_embedded(name: str) -> BadParameter:
    return BadParameter(
        f"features is one table, and {truncated(name)} is no other: write a column with"
        ' a dot in its name in quotes, as "a.b"',
        code="PGRST108",
        message=f"'{name}' is not an embedded resource in this request",
        hint=f"Verify that '{name}' is included in the 'select' query parameter.",
    )
