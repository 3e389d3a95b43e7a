"""Linters find nothing in the OpenAPI document, and generated clients work.

The table has columns with names that need quotes, or that are words of the query
language. The calls of the clients in TypeScript are in generated/.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.databases import Postgres, new_database
from tests.support.examples import ADDRESS, example
from tests.support.node import FOLDER, require_node, run_node, run_tool
from tests.support.processes import SECONDS, environment, fetch, serving
from tests.support.tables import MORE_COLUMNS

pytestmark = pytest.mark.any_postgres

READ, RUN = "read", "run"

#: The oldest Node that Redocly and @hey-api/openapi-ts take.
OLDEST = 20


@dataclass(frozen=True)
class Service:
    """Where a service is, and a file with its document."""

    url: str
    document: Path


@pytest.fixture(scope="module")
def service(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """One with tokens and the rows of the shipped data, and more columns."""
    document = tmp_path_factory.mktemp("openapi") / "openapi.json"
    data = shutil.copytree(FOLDER.parents[1] / "data", document.parent / "data")
    with (
        new_database(postgres) as database,
        serving(
            DATABASE_URL=database,
            DATA_DIR=data,
            API_TOKEN=RUN,
            API_TOKEN_READ=READ,
        ) as (_, url),
    ):
        fetch(f"{url}/trigger_etl", RUN)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(MORE_COLUMNS.encode())
        document.write_bytes(fetch(f"{url}/openapi.json", READ))
        yield Service(url, document)


@pytest.fixture(scope="module")
def tools(packages: Path) -> Path:
    """The packages of npm, where Node is new enough for these."""
    require_node(OLDEST)
    return packages


@pytest.fixture(scope="module")
def compiled(service: Service, url: str, tools: Path) -> Iterator[Path]:
    """The clients in TypeScript with their calls, and the example, as JavaScript."""
    with tempfile.TemporaryDirectory(dir=tools) as name:
        folder = Path(name)
        shutil.copytree(FOLDER / "generated", folder, dirs_exist_ok=True)
        types = ("--output", "features.ts")
        run_tool(tools, "openapi-typescript", service.document, *types, cwd=folder)
        run_tool(tools, "openapi-ts", "--input", service.document, cwd=folder)
        text = example("ts", "openapi-fetch").replace(ADDRESS, url)
        (folder / "example.ts").write_text(text)
        run_tool(tools, "tsc", cwd=folder)
        yield folder / "compiled"


@pytest.fixture(scope="module")
def documents(url: str, service: Service) -> list[Path]:
    """That of a service with tokens, and of one without."""
    other = service.document.with_name("open.json")
    other.write_bytes(fetch(f"{url}/openapi.json"))
    return [service.document, other]


def test_redocly(documents: list[Path], tools: Path) -> None:
    config = ("--config", FOLDER / "redocly.yaml", "--format", "json")
    printed = run_tool(tools, "redocly", "lint", *documents, *config, cwd=tools)
    assert printed.count('"problems": []') == len(documents), printed


def test_spectral(documents: list[Path], tools: Path) -> None:
    rules = ("--ruleset", FOLDER / "spectral.yaml", "--fail-severity", "hint")
    form = ("--format", "json")
    printed = run_tool(tools, "spectral", "lint", *documents, *rules, *form, cwd=tools)
    assert printed.startswith("[]"), printed


@pytest.mark.parametrize("program", ["openapi_fetch", "hey_api"])
def test_clients_in_typescript(service: Service, compiled: Path, program: str) -> None:
    """The calls compile under strict types, and come to what they ask for."""
    printed = run_node(compiled / f"{program}.js", service.url, RUN)
    assert json.loads(printed) == {
        "filtered": [200, "0-0/1", [{"user_id": 1, "who": "Alice"}]],
        "unchanged": [10, 304],
        "one": "Alice",
        "missing": [404, 404, "PGRST125"],
        "refused": [400, "42703", "column features.nobody does not exist"],
        "run": [True, "succeeded", True, [True], 409, "succeeded"],
    }


def test_the_example_of_the_reference(compiled: Path) -> None:
    printed = run_node(compiled / "example.js")
    assert printed.startswith("[ '100%_sure\\\\', 'Ada Lovelace', ")


class Generated:
    """The modules of the client that openapi-python-client has made."""

    def __init__(self, url: str) -> None:
        self.types = import_module("features_etl_client.types")
        self.models = import_module("features_etl_client.models")
        package = import_module("features_etl_client")
        self.client = package.AuthenticatedClient(base_url=url, token=RUN)

    def call(self, operation: str, *arguments: object, **parameters: object) -> Any:
        """The answer of an operation, as ``features.feature``."""
        module = import_module(f"features_etl_client.api.{operation}")
        return module.sync_detailed(*arguments, client=self.client, **parameters)


@pytest.fixture(scope="module")
def generated(service: Service) -> Iterator[Generated]:
    """The client, which lacks no operation and no parameter."""
    folder = service.document.parent
    command = [sys.executable, "-m", "openapi_python_client", "generate"]
    command += ["--path", str(service.document), "--meta", "none"]
    command += ["--output-path", str(folder / "features_etl_client")]
    ended = subprocess.run(
        [*command, "--fail-on-warning"],
        env=environment(PATH=Path(sys.executable).parent),  # where its formatter is
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        client = Generated(service.url)
        with client.client:
            yield client


def test_a_client_in_python(generated: Generated) -> None:
    call = generated.call
    answer = call(
        "features.features",
        select=["user_id", "name", "who:email"],
        user_id=["gte.1", "lte.4"],
        name=["ilike.*a*"],
        not_or=["(user_id.eq.3,user_id.eq.4)"],
        and_=['("limit".eq.1)'],
        a_b_c_d=["is.null"],
        order=["name.desc", "user_id"],
        limit=1,
        prefer="count=exact",
    )
    (row,) = answer.parsed
    assert (row.user_id, row.name, row["who"]) == (1, "Alice", "alice@example.com")
    assert answer.headers["Content-Range"] == "0-0/1"
    everything = call("features.features")
    assert len(everything.parsed) == 10
    seen = everything.headers["ETag"]
    assert call("features.features", if_none_match=seen).status_code == 304
    assert call("features.feature", "1").parsed.name == "Alice"
    missing = call("features.feature", "99").parsed
    assert (missing.status, missing.code) == (404, "PGRST125")
    refused = call("features.features", select=["nobody"]).parsed
    assert (refused.status, refused.code) == (400, "42703")


def test_a_client_in_python_runs_and_uploads(generated: Generated) -> None:
    call, models = generated.call, generated.models
    body = models.TriggerBody(dry_run=True)
    begun = call("runs.trigger_by_post", body=body, wait=False).parsed
    number = begun.run.id
    events = call("runs.events", number).parsed
    assert "\nevent: end\n" in events
    ended = call("runs.run", number).parsed
    assert (ended.state, ended.dry_run) == ("succeeded", True)
    assert call("runs.runs", limit=1).parsed == [ended]
    assert call("runs.rejects", number).parsed == []
    assert call("runs.cancel", number).parsed.run == ended
    (users,) = [each for each in call("files.files").parsed if each.file == "users.csv"]
    assert users.columns[0].name == "user_id"
    name = models.PutFileName.USERS
    sent = call("files.file", "users").content
    answer = call("files.put_file", name, body=generated.types.File(BytesIO(sent)))
    assert answer.parsed.sha256 == users.sha256
