"""The service's description of itself: OpenAPI 3.1, at ``/openapi.json``.

The constant part is the file ``openapi.json`` beside this; columns come from Postgres's
catalog, and tokens from the settings. Knows no column by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from psycopg import AsyncConnection

from etl.api.access import tokens_for
from etl.api.app_keys import DATABASE, SETTINGS
from etl.api.filters import (
    Schema,
    filter_on,
    order_pattern,
    parameter_name,
    select_item,
)
from etl.http.parameters import refuse_parameters
from etl.http.problems import TRIGGER_PATH
from etl.postgres.transactions import SNAPSHOT, transaction
from etl.reading.catalog import Catalog, Column, read_catalog
from etl.reading.tree import RESERVED
from etl.settings import Settings

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


@dataclass(frozen=True)
class Kind:
    """The type of a column's values: a row of etl.feature_types."""

    type: str
    is_array: bool
    is_row: bool
    labels: Sequence[str] | None


@dataclass(frozen=True)
class Table:
    """The columns of ``features``, the kind of each, those that suit facets, the
    table's comment, and the sources that it is made of.
    """

    catalog: Catalog
    kinds: Sequence[Kind]
    facets: Sequence[str]
    description: str | None
    sources: Sequence[str]


async def openapi(request: web.Request) -> web.Response:
    """The document, with the columns of now."""
    refuse_parameters(request)
    async with request.app[DATABASE].readers.connection() as connection:
        table = await read_table(connection)
    document = describe(table, request.app[SETTINGS])
    return web.json_response(document, headers={"Cache-Control": "no-cache"})


async def read_table(connection: AsyncConnection) -> Table:
    """Read the table's description in one snapshot."""
    async with transaction(connection, SNAPSHOT):
        catalog = await read_catalog(connection)
        rows = await connection.execute(
            "select type, is_array, is_row, labels from etl.feature_types"
            " order by position"
        )
        kinds = [Kind(*row) for row in await rows.fetchall()]
        rows = await connection.execute(
            "select name from etl.facet_columns order by position"
        )
        facets = [name for (name,) in await rows.fetchall()]
        rows = await connection.execute(
            "select obj_description(to_regclass('features'), 'pg_class')"
        )
        ((description,),) = await rows.fetchall()
        rows = await connection.execute("select source from etl.sources order by 1")
        sources = [source for (source,) in await rows.fetchall()]
    return Table(catalog, kinds, facets, description, sources)


def describe(table: Table, settings: Settings) -> Schema:
    """The document for this table and these tokens."""
    document: Schema = json.loads(BASE)
    document["components"]["schemas"]["Feature"] = _row(table)
    parameters = document["components"]["parameters"]
    if table.sources:
        parameters["file_name"]["schema"]["enum"] = list(table.sources)
    names = [parameter_name(column.name) for column in table.catalog.columns]
    parameters["select"]["schema"]["items"] = select_item(names)
    parameters["facet"]["schema"]["items"] = select_item(names)
    parameters["order"]["schema"]["items"]["pattern"] = order_pattern(names)
    listed = document["paths"]["/features"]["get"]["parameters"]
    # Generators of clients take limit and "limit" for one: `and` can filter by these.
    columns = [each for each in table.catalog.columns if each.name not in RESERVED]
    listed += map(filter_on, columns)
    _secure(document, settings)
    return document


def _row(table: Table) -> Schema:
    """A row as JSON; ``select`` may leave columns out."""
    schema: Schema = {"type": "object"}
    if table.description:
        schema["description"] = table.description
    columns = zip(table.catalog.columns, table.kinds, strict=True)
    schema["properties"] = {
        column.name: _value(column, kind) for column, kind in columns
    }
    schema["x-key"] = [column.name for column in table.catalog.key]
    schema["x-facets"] = list(table.facets)
    return schema


def _value(column: Column, kind: Kind) -> Schema:
    other = {"type": "object" if kind.is_row else "string"}
    schema = dict(JSON_TYPES.get(kind.type, other))
    if kind.labels:
        schema["enum"] = list(kind.labels)
    if kind.is_array:
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
