"""The answer of ``/features?facet=``: headers, status and body."""

from __future__ import annotations

from aiohttp import web

from etl.api.answers import representation_of, unchanged, with_catalog
from etl.http.negotiation import choose_format
from etl.http.preferences import preferences_of
from etl.postgres.database import Database
from etl.reading.catalog import Catalog
from etl.reading.facets import count_values, read_facets
from etl.reading.query import Preferences
from etl.reading.reader import in_timezone


async def answer_facets(request: web.Request, database: Database) -> web.StreamResponse:
    """The commonest values of the columns that the query string names."""
    accepted = choose_format(request.headers.get("Accept", ""), ("json",))
    asked = Preferences(accepted, timezone=preferences_of(request).timezone)
    parameters = tuple(request.query.items())

    async def attempt(catalog: Catalog) -> web.StreamResponse:
        facets = read_facets(catalog, parameters, asked)
        form = representation_of(request, facets.query, parameters, asked)
        if not_modified := await unchanged(form, catalog):
            return not_modified
        async with (
            database.readers.connection() as connection,
            in_timezone(connection, asked.timezone),
        ):
            return form.answer(*await count_values(connection, catalog, facets))

    return await with_catalog(request, attempt)
