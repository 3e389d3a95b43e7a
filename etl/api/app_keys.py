"""What handlers find in their application, under typed keys."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from aiohttp import web
from psycopg import AsyncConnection

from etl.api.readiness import Readiness
from etl.http.addresses import client_network
from etl.postgres.database import Database
from etl.run.events import Events
from etl.run.runs import Runner
from etl.run.watch import Watcher
from etl.settings import Settings

SETTINGS = web.AppKey("settings", Settings)
DATABASE = web.AppKey("database", Database)
RUNNER = web.AppKey("runner", Runner)
EVENTS = web.AppKey("events", Events)
WATCHER = web.AppKey("watcher", Watcher)
READINESS = web.AppKey("readiness", Readiness)


def records_connection(
    request: web.Request,
) -> AbstractAsyncContextManager[AsyncConnection]:
    """A connection for what a request asks of the service, within its client's half;
    for rows of ``features`` and rejects there are the readers.
    """
    return request.app[DATABASE].records.connection_for(client_network(request))
