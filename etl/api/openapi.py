"""The service's description of itself: OpenAPI 3.1, at ``/openapi.json``.

What is the same everywhere stands in ``openapi.json`` beside this; the columns come
from Postgres's catalog, and the tokens from the settings. Knows no column by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection

from etl.api.access import need_of, tokens_for
from etl.http.problems import TRIGGER_PATH
from etl.postgres.transactions import SNAPSHOT, transaction
from etl.reading.catalog import Catalog, Column, read_catalog
from etl.reading.query import COMPARISONS, IS_VALUES, PATTERNS, RESERVED
from etl.settings import Settings

Schema = dict[str, Any]

#: Paths, parameters, answers and records; every path is in it, served or not yet.
BASE = Path(__file__).with_name("openapi.json").read_text(encoding="utf-8")

#: How Postgres's row_to_json writes its types; all others come as strings.
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

#: What means something in a pattern (ECMA 262), and after a backslash only itself.
SYNTAX = re.compile(r"[\\^$.*+?()\[\]{}|/]")


@dataclass(frozen=True)
class Kind:
    """What the values of a column are made of: see etl/functions/080_reading.sql."""

    type: str
    is_array: bool
    is_row: bool
    labels: Sequence[str] | None


@dataclass(frozen=True)
class Table:
    """What the catalog says of ``features``; a kind for each of its columns."""

    catalog: Catalog
    kinds: Sequence[Kind]
    description: str | None


async def read_table(connection: AsyncConnection) -> Table:
    """Read all that is described of the table, in one snapshot."""
    async with transaction(connection, SNAPSHOT):
        catalog = await read_catalog(connection)
        kinds = await connection.execute(
            "select type, is_array, is_row, labels from etl.feature_types"
            " order by position"
        )
        found = [Kind(*kind) for kind in await kinds.fetchall()]
        words = await connection.execute(
            "select obj_description(to_regclass('features'), 'pg_class')"
        )
        row = await words.fetchone()
    return Table(catalog, found, row[0] if row else None)


def describe(table: Table, routes: Collection[str], settings: Settings) -> Schema:
    """The document for a service that has these routes."""
    document: Schema = json.loads(BASE)
    paths = document["paths"]
    document["paths"] = {path: paths[path] for path in paths if path in routes}
    document["components"]["schemas"]["Feature"] = row_schema(table)
    parameters = document["components"]["parameters"]
    names = [_as_parameter(column.name) for column in table.catalog.columns]
    parameters["select"]["schema"]["items"]["enum"] = names
    words = "|".join(re.sub(SYNTAX, r"\\\g<0>", name) for name in names)
    parameters["order"]["schema"]["items"]["pattern"] = (
        rf"^({words})(\.(asc|desc))?(\.(nullsfirst|nullslast))?$"
    )
    paths["/features"]["get"]["parameters"] += map(_filter, table.catalog.columns)
    _describe_body(document)
    _secure(document, settings)
    return document


def row_schema(table: Table) -> Schema:
    """A row as JSON; ``select`` may leave columns out."""
    schema: Schema = {"type": "object"}
    if table.description:
        schema["description"] = table.description
    columns = zip(table.catalog.columns, table.kinds, strict=True)
    schema["properties"] = {
        column.name: _value(column, kind) for column, kind in columns
    }
    schema["x-key"] = [column.name for column in table.catalog.key]
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


def _filter(column: Column) -> Schema:
    """The filter on a column, as a parameter that may stand several times."""
    operators = [*COMPARISONS, *(PATTERNS if column.is_text else ())]
    states = list(IS_VALUES) if column.type == "boolean" else list(IS_VALUES)[:2]
    asked = ", ".join(f"`is.{state}`" for state in states)
    words = (
        f"A filter: {', '.join(operators)}, a dot and a value of type {column.type};"
        f" `in.(…,…)`; {asked}; `not.` before any"
    )
    one, many = "|".join(operators), "|".join(states)
    pattern = rf"^(not\.)?(({one})\.|in\.\([\s\S]*\)$|is\.({many})$)"
    return {
        "name": _as_parameter(column.name),
        "in": "query",
        "description": ". ".join(filter(None, [column.description, words])),
        "schema": {"type": "array", "items": {"type": "string", "pattern": pattern}},
    }


def _as_parameter(name: str) -> str:
    """A column's name as a query string has it: in quotes where it must be."""
    if name in RESERVED or re.search('[",.]', name):
        escaped = re.sub(r'(["\\])', r"\\\1", name)
        return f'"{escaped}"'
    return name


def _describe_body(document: Schema) -> None:
    """The trigger takes its query parameters in a body too."""
    components = document["components"]
    parameters = components["parameters"].values()
    names = {
        each["$ref"].rpartition("/")[2]
        for each in document["paths"][TRIGGER_PATH]["post"]["parameters"]
    }
    components["schemas"]["TriggerBody"]["properties"] = {
        each["name"]: {**each["schema"], "description": each["description"]}
        for each in parameters
        if each["name"] in names and each["in"] == "query"
    }


def _secure(document: Schema, settings: Settings) -> None:
    """Say which operations need a token; nothing where none is set."""
    schemes: Schema = {}
    for path, operations in document["paths"].items():
        names = tokens_for(settings, need_of(path))
        for operation in operations.values() if names else ():
            operation["security"] = [{name: []} for name in names]
            answer = "TriggerUnauthorized" if path == TRIGGER_PATH else "Unauthorized"
            operation["responses"]["401"] = {"$ref": f"#/components/responses/{answer}"}
        schemes |= {name: {"type": "http", "scheme": "bearer"} for name in names}
    if schemes:
        document["components"]["securitySchemes"] = schemes
