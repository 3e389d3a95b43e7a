"""The answer of ``/features?facet=``: headers, status and body."""

from __future__ import annotations

from aiohttp import web

from etl.api.answers import READER, VARY, with_catalog
from etl.http.negotiation import choose_coding, choose_format
from etl.http.preferences import check_profile, preferences_of
from etl.http.representations import Representation
from etl.postgres.database import Database
from etl.reading.catalog import Catalog
from etl.reading.exports import CONTENT_TYPES
from etl.reading.facets import count_values, read_facets
from etl.reading.query import Preferences, digest
from etl.reading.reader import REFUSALS, in_timezone, refused


async def answer_facets(request: web.Request, database: Database) -> web.StreamResponse:
    """The commonest values of the columns that the query string names."""
    reader = request.app[READER]
    coding = choose_coding(request.headers.get("Accept-Encoding", ""))
    accepted = choose_format(request.headers.get("Accept", ""), ("json",))
    preferred, _ = preferences_of(request)
    asked = Preferences(accepted, timezone=preferred.timezone)
    parameters = tuple(request.query.items())

    async def attempt(catalog: Catalog) -> web.StreamResponse:
        check_profile(request, catalog)
        facets = read_facets(catalog, parameters, asked)
        form = Representation(digest(parameters, asked), VARY, coding)
        try:
            if request.if_none_match:
                published = await reader.published(catalog)
                if answer := form.not_modified(request, published):
                    return answer
            async with (
                database.readers.connection() as connection,
                in_timezone(connection, asked.timezone),
            ):
                published, body = await count_values(connection, catalog, facets)
        except REFUSALS as error:
            raise refused(error) from error
        response = web.Response(
            body=body, headers={"Content-Type": CONTENT_TYPES["json"]}
        )
        form.describe(response, published)
        form.compress(request, response)
        return response

    return await with_catalog(reader, attempt)
