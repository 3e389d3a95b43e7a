"""The examples of the reference for PostgREST's clients, run as they are there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.examples import ADDRESS, example, python
from tests.support.node import run_module
from tests.support.processes import get, serving

pytestmark = pytest.mark.any_postgres


@pytest.fixture
def shipped(database: str) -> Iterator[str]:
    """Where a service with the rows of the shipped data is."""
    with serving(DATABASE_URL=database) as (_, address):
        assert get(f"{address}/trigger_etl")["run"]["state"] == "succeeded"
        yield address


def test_postgrest_js(shipped: str, packages: Path) -> None:
    text = example("js", "PostgrestClient").replace(ADDRESS, shipped)
    printed = run_module(packages, text)
    assert printed.startswith("the first of 10: [")
    assert "{ name: 'Alice', total_experiments: 2 }" in printed


def test_postgrest_py(shipped: str, tmp_path: Path) -> None:
    text = example("python", "SyncPostgrestClient").replace(ADDRESS, shipped)
    printed = python(text, tmp_path)
    assert printed.startswith("the first of 10: [")
    assert "{'name': 'Alice', 'total_experiments': 2}" in printed


def test_react_admin(shipped: str, packages: Path) -> None:
    """The data provider; Node, unlike a bundler, takes the package as CommonJS."""
    name = '"@raphiniert/ra-data-postgrest";'
    text = example("js", name).replace(ADDRESS, shipped)
    text = text.replace(f"postgrest from {name}", f"loaded from {name}")
    text = text.replace(
        '"react-admin";', '"ra-core";\nconst postgrest = loaded.default;'
    )
    printed = run_module(
        packages,
        f"""{text}
        const {{ data, total }} = await dataProvider.getList("features", {{
          pagination: {{ page: 1, perPage: 3 }},
          sort: {{ field: "total_experiments", order: "DESC" }},
          filter: {{ "name@ilike": "ali" }},
        }});
        console.log(total, data[0].id, data[0].name);""",
    )
    assert printed == "1 1 Alice\n"
