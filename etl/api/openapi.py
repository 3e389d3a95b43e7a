"""The service's description of itself: OpenAPI 3.1, at ``/openapi.json``.

The constant part is the file ``openapi.json`` beside this; columns come from Postgres's
catalog, and tokens from the settings. Knows no column by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from etl.api.access import tokens_for
from etl.api.app_keys import SETTINGS, records_connection
from etl.http.parameters import refuse_parameters
from etl.http.problems import TRIGGER_PATH
from etl.reading.catalog import Catalog, Column, read_catalog
from etl.reading.grammar import NAME
from etl.reading.tree import (
    IS_VALUES,
    OPERATORS,
    QUANTIFIABLE,
    RESERVED,
    SEARCHES,
)
from etl.settings import Settings

Schema = dict[str, Any]

#: Paths, parameters, answers and schemas.
BASE = Path(__file__).with_name("openapi.json").read_text(encoding="utf-8")

#: How row_to_json writes Postgres's types; all others are strings.
JSON_TYPES: Mapping[str, Schema] = {
    "smallint": {"type": "integer", "format": "int16"},
    "integer": {"type": "integer", "format": "int32"},
    "bigint": {"type": "integer", "format": "int64"},
    "numeric": {"type": "number"},
    "real": {"type": "number", "format": "float"},
    "double precision": {"type": "number", "format": "double"},
    "boolean": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "timestamp with time zone": {"type": "string", "format": "date-time"},
    "uuid": {"type": "string", "format": "uuid"},
    "json": {},
    "jsonb": {},
}

#: A filter, as etl/reading/grammar.py takes it, and a little more, which only Postgres
#: can refuse.
_FILTER = "|".join(
    (
        rf"^(not\.)?(({'|'.join(QUANTIFIABLE)})(\((any|all)\))?\.",
        rf"({'|'.join(OPERATORS)})\.",
        rf"({'|'.join(SEARCHES)})(\([\w$ ]+\))?\.",
        r"in\.\s*\([\s\S]*\)\s*$",
        rf"is\.({'|'.join(IS_VALUES)})$)",
    )
)


@dataclass(frozen=True)
class Table:
    """The columns of ``features``, those that suit facets, the table's comment, and the
    sources that it is made of.
    """

    catalog: Catalog
    facets: Sequence[str]
    description: str | None
    sources: Sequence[str]


async def openapi(request: web.Request) -> web.Response:
    """The document, with the columns of now."""
    refuse_parameters(request)
    async with records_connection(request) as connection:
        catalog = await read_catalog(connection)
        rows = await connection.execute(
            "select array(select name from etl.facet_columns order by position),"
            " obj_description(to_regclass('features'), 'pg_class'),"
            " array(select source from etl.sources order by source)"
        )
        (others,) = await rows.fetchall()
    document = describe(Table(catalog, *others), request.app[SETTINGS])
    return web.json_response(document, headers={"Cache-Control": "no-cache"})


def describe(table: Table, settings: Settings) -> Schema:
    """The document for this table and these tokens."""
    document: Schema = json.loads(BASE)
    document["components"]["schemas"]["Feature"] = _row(table)
    parameters = document["components"]["parameters"]
    if table.sources:
        parameters["file_name"]["schema"]["enum"] = list(table.sources)
    names = [_parameter_name(column.name) for column in table.catalog.columns]
    for listing in ("select", "facet", "order"):
        # A column, or what is made of one: the parameter's description says how.
        items = [{"type": "string", "enum": names}, {"type": "string"}]
        parameters[listing]["schema"]["items"] = {"anyOf": items}
    listed = document["paths"]["/features"]["get"]["parameters"]
    # Generators of clients take limit and "limit" for one: `and` can filter by these.
    columns = [each for each in table.catalog.columns if each.name not in RESERVED]
    listed += map(_filter_on, columns)
    _secure(document, settings)
    return document


def _row(table: Table) -> Schema:
    """A row as JSON; ``select`` may leave columns out."""
    schema: Schema = {"type": "object"}
    if table.description:
        schema["description"] = table.description
    schema["properties"] = {each.name: _value(each) for each in table.catalog.columns}
    schema["x-key"] = [column.name for column in table.catalog.key]
    schema["x-facets"] = list(table.facets)
    return schema


def _value(column: Column) -> Schema:
    other = {"type": "object" if column.is_row else "string"}
    schema = dict(JSON_TYPES.get(column.base_type, other))
    if column.labels:
        schema["enum"] = list(column.labels)
    if column.is_array:
        schema = {"type": "array", "items": _nullable(schema)}
    if not column.is_required:
        schema = _nullable(schema)
    if column.description:
        schema["description"] = column.description
    return schema


def _nullable(schema: Schema) -> Schema:
    schema = dict(schema)
    if "type" in schema:
        schema["type"] = [schema["type"], "null"]
    if "enum" in schema:
        schema["enum"] = [*schema["enum"], None]
    return schema


def _secure(document: Schema, settings: Settings) -> None:
    """Which operations need a token, where tokens are set."""
    schemes: Schema = {}
    unused = {"Unauthorized", "TriggerUnauthorized"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            names = tokens_for(settings, path, method.upper())
            schemes |= {name: {"type": "http", "scheme": "bearer"} for name in names}
            if not names:
                continue
            operation["security"] = [{name: []} for name in names]
            answer = "TriggerUnauthorized" if path == TRIGGER_PATH else "Unauthorized"
            operation["responses"]["401"] = {"$ref": f"#/components/responses/{answer}"}
            unused.discard(answer)
    if schemes:
        document["components"]["securitySchemes"] = schemes
    for answer in unused:
        del document["components"]["responses"][answer]


def _parameter_name(name: str) -> str:
    """A column's name as in a query string: in quotes where it needs them."""
    if name in RESERVED or name.startswith('"') or not NAME.fullmatch(name):
        escaped = re.sub(r'(["\\])', r"\\\1", name)
        return f'"{escaped}"'
    return name


def _filter_on(column: Column) -> Schema:
    """The filter on a column, as a parameter that may be repeated."""
    operators = ", ".join((*OPERATORS, *SEARCHES))
    states = ", ".join(f"`is.{state}`" for state in IS_VALUES)
    syntax = (
        f"A filter: {operators}, a dot and a value, as far as {column.type} has them;"
        f" `in.(…,…)`; {states}; `not.` before any"
    )
    return {
        "name": _parameter_name(column.name),
        "in": "query",
        "description": ". ".join(filter(None, [column.description, syntax])),
        "schema": {"type": "array", "items": {"type": "string", "pattern": _FILTER}},
    }
