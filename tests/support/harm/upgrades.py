"""An upgrade to a newer version that is killed on its way, and the way back.

The newer version is a copy of this one with one more schema file and function.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

from etl.settings import PROJECT
from tests.support.harm.data import Data
from tests.support.harm.report import Report
from tests.support.harm.service import Service
from tests.support.processes import SECONDS, environment

NEWER = """-- What a newer version needs.
create table etl.newer (id integer primary key);
comment on table etl.newer is 'Of a newer version';
comment on column etl.newer.id is 'Nothing';
"""

#: A start takes longer than that; a kill comes at any moment of it.
START_SECONDS = 2.0


def upgrades(folder: Path, rng: Random, times: int, report: Report) -> None:
    """Each time with a database that the version before has made."""
    server = _newer_version(folder / "newer")
    for number in report.rounds(times):
        Data(folder / str(number) / "data", rng)
        service = Service(folder / str(number))
        try:
            _there_and_back(service, server, rng, report)
        finally:
            service.close(server)
        shutil.rmtree(service.state)


def _there_and_back(
    service: Service, server: Path, rng: Random, report: Report
) -> None:
    service.start()
    service.get("/trigger_etl")
    old = service.features()
    service.end(signal.SIGTERM)
    service.start_killed(rng.random() * START_SECONDS, server)
    service.start(server)
    report.require(service.features() == old, "an upgrade keeps the features")
    status, body = service.get("/trigger_etl")
    report.require(status == 200, "a run succeeds after an upgrade", body)
    service.end(signal.SIGTERM)
    refused = subprocess.run(
        [sys.executable, str(PROJECT / "server.py")],
        env=environment(**{"PORT": 0, **service.settings}),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    is_clear = refused.stderr.count("\n") == 1 and "newer version" in refused.stderr
    report.require(
        refused.returncode == 2 and is_clear,
        "the version before refuses in one line",
        refused,
    )
    service.start(server)
    report.require(service.features() == old, "the newer version serves them again")


def _newer_version(folder: Path) -> Path:
    """The entry point of a copy of the project with what a newer version would add."""
    for name in ("etl", "sql"):
        shutil.copytree(PROJECT / name, folder / name)
    shutil.copy(PROJECT / "server.py", folder)
    (folder / "etl/schema/900_newer.sql").write_text(NEWER)
    with (folder / "etl/functions/040_rules.sql").open("a") as file:
        file.write("create or replace function etl.newer() returns integer return 1;\n")
    return folder / "server.py"
