"""What a run leaves: read from a service and its database, and compared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import unified_diff
from typing import Any

from psycopg import AsyncConnection

from tests.support.client import Client

#: What a run says of a file that does not depend on the runs before it.
FILE_KEYS = (
    *("file", "bytes", "sha256", "header"),
    *("records", "rejected", "rejected_by_reason"),
)

#: Of two files with too many rejects a run names the one that it happens to see first.
TOO_MANY = "more than MAX_REJECTS="

REJECTS = """
select row_to_json(rejects)
from (
    select
        file, line, column_name, value, reason, message, record, keys,
        cause_file, cause_line
    from etl.rejects
    where run_id = %s
) as rejects
"""


@dataclass(frozen=True)
class Features:
    """The answer of GET /features: its bytes and its entity tag."""

    body: bytes
    etag: str

    @classmethod
    async def of(cls, client: Client) -> Features:
        async with client.get("/features") as response:
            body = await response.read()
            assert response.status == 200, body
            return cls(body, response.headers["ETag"])


@dataclass(frozen=True)
class Outcome:
    """The end of a run, and all that it left that the next one must leave too."""

    status: int
    run: dict[str, Any]
    left: dict[str, Any]

    @property
    def has_succeeded(self) -> bool:
        return self.status == 200

    def differences(self, fresh: Outcome) -> list[str]:
        """Lines of a diff from what a run from nothing leaves to what this one left."""
        ours, theirs = self.text.splitlines(), fresh.text.splitlines()
        names = "a run from nothing", "this run"
        return list(unified_diff(theirs, ours, *names, lineterm="", n=2))

    @property
    def text(self) -> str:
        return json.dumps(
            {"status": self.status, **self.left}, indent=1, ensure_ascii=False
        )


async def outcome_of(
    client: Client, connection: AsyncConnection, parameters: dict[str, str]
) -> Outcome:
    """Trigger a run, wait for it, and read what it left.

    A run that failed leaves its error. What it had loaded or rejected by then depends
    on which worker was first.
    """
    async with client.get("/trigger_etl", params=parameters) as response:
        answer = await response.json(content_type=None)
    status, run, result = response.status, answer["run"], answer["result"]
    if status != 200:
        error = TOO_MANY if TOO_MANY in result else result
        return Outcome(status, run, {"error": error, "state": run["state"]})
    rows = await (await connection.execute(REJECTS, [run["id"]])).fetchall()
    left = {
        "result": result,
        "state": run["state"],
        "warnings": sorted(run["warnings"]),
        "changes": run["changes"],
        "files": [{key: file[key] for key in FILE_KEYS} for file in run["files"]],
        "rejects": sorted(json.dumps(row, sort_keys=True) for (row,) in rows),
    }
    if parameters.get("dry_run") != "true":
        features = await Features.of(client)
        left["etag"] = features.etag
        left["features"] = features.body.decode().splitlines()
    return Outcome(status, run, left)
