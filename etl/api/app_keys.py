"""What handlers find in their application, under typed keys."""

from __future__ import annotations

from aiohttp import web

from etl.api.readiness import Readiness
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
