"""Any request at all gets an answer that /openapi.json describes: schemathesis asks."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import psycopg
import pytest

from tests.support.processes import environment, serving
from tests.support.tables import MORE_COLUMNS

pytestmark = pytest.mark.any_postgres

#: Requests of each kind for an operation. Many more were made by hand.
EXAMPLES = 5

#: A value that only Postgres can read, or a word that only the service gives, is
#: refused with 400, though it looks as described.
EXCLUDED = "positive_data_acceptance"

#: It takes the schema of an event stream for that of an event with its name and id.
#: Ours is of the data, as generators of clients take it: test_openapi compares that.
CONFIGURATION = """
[[operations]]
include-path = "/runs/{id}/events"
checks.response_schema_conformance.enabled = false
"""

FILL = """
update features set
    part = 0.5, parts = '{0.1,null}', mood = 'good', moods = '{good,null}',
    pair = row(1, 'x'), seen = now(), plain = now(), code = 'abc', amount = 1.25,
    ok = true, words = '{"a": [1]}', id = gen_random_uuid()
where user_id < 5
"""


#: Its phases, and the token of the service. All values that the document names or
#: forbids are most requests: these are asked once, where a token can be left out too.
PHASES = [("examples,fuzzing,stateful", None), ("coverage", "t0ken")]


@pytest.mark.parametrize(("phases", "token"), PHASES)
def test_answers_are_as_described(
    database: str, data_dir: Path, tmp_path: Path, phases: str, token: str | None
) -> None:
    """With columns of all kinds, a rejected record, and with tokens or without."""
    users = data_dir / "users.csv"
    users.write_text(users.read_text() + "x,\tBroken,\t,\t\n")
    tokens = {"API_TOKEN": token, "API_TOKEN_READ": "read"} if token else {}
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    log = tmp_path / "log"
    sent = {"Authorization": f"Bearer {token}"} if token else {}
    with serving(log, DATABASE_URL=database, DATA_DIR=data_dir, **tokens) as (_, url):
        trigger = urllib.request.Request(f"{url}/trigger_etl", headers=sent)
        urllib.request.urlopen(trigger, timeout=60).close()
        with psycopg.connect(database) as connection:
            connection.execute(MORE_COLUMNS.encode())
            connection.execute(FILL.encode())
        command = [sys.executable, "-m", "schemathesis.cli", "run"]
        command += [f"{url}/openapi.json", "--max-examples", str(EXAMPLES)]
        command += ["--seed", "1", "--no-color", "--exclude-checks", EXCLUDED]
        command += ["--phases", phases, "--suppress-health-check", "too_slow"]
        for name, value in sent.items():
            command += ["--header", f"{name}: {value}"]
        ended = subprocess.run(
            command,
            env=environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        document = urllib.request.Request(f"{url}/openapi.json", headers=sent)
        with urllib.request.urlopen(document, timeout=60) as answer:
            operations = sum(map(len, json.load(answer)["paths"].values()))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    # of all but the document itself
    assert f"Tested: {operations - 1}\n" in ended.stdout, ended.stdout
    assert "ERROR" not in log.read_text()
