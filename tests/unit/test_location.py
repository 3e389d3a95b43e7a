"""The location of a database in messages: what libpq would try, and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.postgres.database import location_of


@pytest.mark.parametrize(
    ("conninfo", "environ", "location"),
    [
        ("host=h dbname=d", {}, "the database d at h:5432"),
        ("postgresql://u:p@h:7/d", {}, "the database d at h:7"),
        ("host=h user=u", {}, "the database u at h:5432"),
        ("", {"PGHOST": "h", "PGDATABASE": "d"}, "the database d at h:5432"),
        ("", {"PGHOST": "h", "PGUSER": "u", "PGPORT": "7"}, "the database u at h:7"),
        ("host=a dbname=d", {"PGHOST": "b", "PGPORT": "7"}, "the database d at a:7"),
        (
            "host=a dbname=d",
            {"PGHOSTADDR": "10.0.0.1"},
            "the database d at a (10.0.0.1):5432",
        ),
        ("", {"PGSERVICE": "s"}, "the database of at there:6"),
        ("service=s dbname=d", {}, "the database d at the service s:5432"),
        ("dbname=d", {}, "the database d at the local socket:5432"),
        ("", {"PGHOST": "h", "PGDATABASE": "d", "PGPASSWORD": "p"}, "the database d"),
    ],
)
def test_it_is_what_libpq_tries(
    conninfo: str,
    environ: dict[str, str],
    location: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HOST", "HOSTADDR", "PORT", "USER", "DATABASE", "SERVICE"):
        monkeypatch.delenv(f"PG{name}", raising=False)
    file = tmp_path / "services"
    file.write_text("[s]\nhost=there\nport=6\ndbname=of\npassword=hush\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert location_of(conninfo).startswith(location)
