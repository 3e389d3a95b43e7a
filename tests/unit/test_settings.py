"""Settings: defaults, the order of database names, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from etl.postgres.process import files_of_owner
from etl.settings import PROJECT, Settings, SettingsError, unused_names

PASS_FILE = "DB_PASS_FILE"


def test_defaults() -> None:
    settings = Settings.from_environ({})
    assert (settings.host, settings.port) == ("127.0.0.1", 5000)
    assert settings.data_dir == PROJECT / "data"
    assert settings.state_dir == PROJECT / ".state"
    assert settings.database is None
    assert settings.load_workers >= 1


def test_an_empty_value_counts_as_not_set() -> None:
    names = ["HOST", "PORT", "DATA_DIR", "DATABASE_URL", "DB_HOST", "PGHOST"]
    assert Settings.from_environ(dict.fromkeys(names, "")) == Settings.from_environ({})


def test_first_database_wins() -> None:
    names = {
        "DATABASE_URL": "postgresql://one/db",
        "DB_HOST": "two",
        "DB_PORT": "7",
        "DB_USER": "u",
        "DB_PASS": "p w'",
        "DB_NAME": "n",
        "PGHOST": "three",
    }
    assert Settings.from_environ(names).database == "postgresql://one/db"
    del names["DATABASE_URL"]
    found = Settings.from_environ(names).database
    assert conninfo_to_dict(found or "") == {
        "host": "two",
        "port": "7",
        "user": "u",
        "password": "p w'",
        "dbname": "n",
    }
    assert Settings.from_environ({"PGHOST": "three"}).database == ""


def test_secrets_come_from_files_and_are_not_shown(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden\n")
    settings = Settings.from_environ({"DB_HOST": "h", "DB_PASS_FILE": str(secret)})
    assert conninfo_to_dict(settings.database or "")["password"] == "hidden"
    assert "hidden" not in repr(settings)
    secret.write_text("postgresql://u:hidden@h/d")
    settings = Settings.from_environ({"DATABASE_URL_FILE": str(secret)})
    assert settings.database == "postgresql://u:hidden@h/d"


def test_tokens_come_from_files_and_are_not_shown(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden\n")
    settings = Settings.from_environ(
        {"API_TOKEN_FILE": str(secret), "API_TOKEN_READ": "hidden/too+="}
    )
    assert (settings.api_token, settings.api_token_read) == ("hidden", "hidden/too+=")
    assert "hidden" not in repr(settings)
    none = Settings.from_environ({"API_TOKEN": "", "API_TOKEN_READ_FILE": ""})
    assert (none.api_token, none.api_token_read) == (None, None)


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", set()),
        ("*", {"*"}),
        ("https://a.example", {"https://a.example"}),
        (
            "http://localhost:3000 , HTTPS://A.example:443,http://[::1]:80",
            {"http://localhost:3000", "https://a.example", "http://[::1]"},
        ),
        ("app://xn--bcher-kva.example", {"app://xn--bcher-kva.example"}),
    ],
)
def test_origins_are_read_as_browsers_write_them(text: str, origins: set[str]) -> None:
    assert Settings.from_environ({"CORS_ORIGINS": text}).cors_origins == origins


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("", set()),
        ("*", {"*"}),
        ("etl", {"etl"}),
        (" ETL.example.com , a_b-c", {"etl.example.com", "a_b-c"}),
    ],
)
def test_hosts_that_are_allowed(text: str, hosts: set[str]) -> None:
    assert Settings.from_environ({"ALLOWED_HOSTS": text}).allowed_hosts == hosts


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", 2 << 30),
        ("1", 1),
        ("1000000", 1_000_000),
        ("7B", 7),
        ("64kB", 64 << 10),
        ("500 MB", 500 << 20),
        ("2gb", 2 << 30),
        ("1TB", 1 << 40),
    ],
)
def test_sizes_have_units_as_in_postgres(text: str, size: int) -> None:
    assert Settings.from_environ({"MAX_UPLOAD": text}).max_upload == size


def test_uploads_are_on_or_off() -> None:
    for text, expected in (("", True), ("on", True), ("off", False)):
        assert Settings.from_environ({"UPLOADS": text}).uploads is expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("", 0), ("0", 0), ("0.0", 0)),
        *(("5", 5), ("0.1", 0.1), ("2.50", 2.5), ("86400", 86400)),
    ],
)
def test_seconds_between_looks(text: str, seconds: float) -> None:
    assert Settings.from_environ({"WATCH": text}).watch == seconds


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"PORT": "http"}, "PORT"),
        ({"PORT": "65536"}, "PORT"),
        ({"PORT": "-1"}, "PORT"),
        ({"PORT": "٣"}, "PORT"),
        ({"LOAD_WORKERS": "0"}, "LOAD_WORKERS"),
        ({"BUILD_WORKERS": "1.5"}, "BUILD_WORKERS"),
        ({"SQL_DIR": "/nowhere"}, "SQL_DIR"),
        ({"DATA_DIR": "/nowhere"}, "DATA_DIR"),
        ({"DATA_DIR": __file__}, "DATA_DIR"),
        ({"DATABASE_URL": "not one: secret"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://u:p@secret@h/d"}, "DATABASE_URL: one @ too"),
        ({"DATABASE_URL": "postgres://u:p/secret@h/d"}, "DATABASE_URL: one @ too"),
        ({"DATABASE_URL": "postgres://u@corp:secret@h/d"}, "DATABASE_URL: one @ too"),
        ({"DATABASE_URL": "postgres://u:p%secret@h/d"}, "DATABASE_URL.*%25"),
        ({"DB_HOST": "postgresql://u:secret@h/d"}, "DB_HOST"),
        ({"DB_HOST": "u:secret@h"}, "DB_HOST"),
        ({"PGHOST": "u:secret@h"}, "PGHOST"),
        ({"DB_HOST": "h", "DB_PORT": "x"}, "DB_PORT"),
        ({"DB_HOST": "h", "DB_PASS_FILE": "/nowhere"}, "DB_PASS_FILE"),
        ({"DB_HOST": "h", "DB_PASS": "secret", "DB_PASS_FILE": "x"}, "DB_PASS"),
        ({"WATCH": "0.05"}, "WATCH"),
        ({"WATCH": "-1"}, "WATCH"),
        ({"WATCH": "5 s"}, "WATCH"),
        ({"WATCH": "5\n"}, "WATCH"),
        ({"WATCH": "1e3"}, "WATCH"),
        ({"WATCH": "nan"}, "WATCH"),
        ({"WATCH": "٣"}, "WATCH"),
        ({"WATCH": "86401"}, "WATCH"),
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT"),
        ({"LOG_FORMAT": "JSON"}, "LOG_FORMAT"),
        ({"API_TOKEN": "a secret"}, "API_TOKEN"),
        ({"API_TOKEN": "secret\x7f"}, "API_TOKEN"),
        ({"API_TOKEN": "secr\u00e9t secret"}, "API_TOKEN"),
        ({"API_TOKEN": "secret" * 1000}, "API_TOKEN"),
        ({"API_TOKEN_READ": "secret\nsecret"}, "API_TOKEN_READ"),
        ({"API_TOKEN": "secret", "API_TOKEN_FILE": "x"}, "API_TOKEN"),
        ({"API_TOKEN_READ_FILE": "/nowhere"}, "API_TOKEN_READ_FILE"),
        ({"UPLOADS": "yes"}, "UPLOADS"),
        *(
            ({"MAX_UPLOAD": text}, "MAX_UPLOAD")
            for text in ("0", "0MB", "-1", "1.5GB", "2GiB", "GB", "2 G", "1" * 16, "٣")
        ),
        *(
            ({"ALLOWED_HOSTS": text}, "ALLOWED_HOSTS")
            for text in ("etl:5000", "http://etl", "*,etl", "etl,", "*.etl", "a b", "é")
        ),
        ({"CORS_ORIGINS": "app.example.com"}, "CORS_ORIGINS"),
        ({"CORS_ORIGINS": "https://app.example.com/"}, "CORS_ORIGINS"),
        ({"CORS_ORIGINS": "https://a.example https://b.example"}, "CORS_ORIGINS"),
        ({"CORS_ORIGINS": "https://a.example,"}, "CORS_ORIGINS"),
        ({"CORS_ORIGINS": "https://*.example.com"}, "CORS_ORIGINS"),
        ({"CORS_ORIGINS": "https://a.example:0"}, "CORS_ORIGINS"),
        ({"CORS_ORIGINS": "https://a.example\nX: y"}, "CORS_ORIGINS"),
        ({"CORS_ORIGINS": "null"}, "CORS_ORIGINS"),
        ({"CORS_ORIGINS": "*,https://a.example"}, "CORS_ORIGINS"),
        ({"TRUSTED_PROXIES": "proxy.example"}, "TRUSTED_PROXIES: 'proxy.example'"),
        ({"TRUSTED_PROXIES": "10.0.0.1/8"}, "TRUSTED_PROXIES: 10.0.0.1/8 has host"),
        ({"TRUSTED_PROXIES": "10.0.0.1 10.0.0.2"}, "TRUSTED_PROXIES"),
        ({"TRUSTED_PROXIES": "127.0.0.1,"}, "TRUSTED_PROXIES"),
        ({"TRUSTED_PROXIES": "*"}, "TRUSTED_PROXIES"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(
    environ: dict[str, str], named: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{named}") as raised:
        Settings.from_environ(environ)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_pipeline_out_of_reach_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    if os.geteuid() == 0:
        os.chown(closed, 65534, 65534)
    message = f"^FOLDER: {closed}/mine is not a folder: "
    with files_of_owner(closed), pytest.raises(SettingsError, match=message):
        Settings.from_environ({}, closed / "mine")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p%40s%2Fs@h/d",
        "postgresql://u:p?#[:s@h:1,i:2/d",
        "postgresql://h/d?user=u@corp&password=p@ss",
        "postgresql://h?password=p@ss",
        "postgresql://",
        "host=h password=postgresql://a@b@c",
    ],
)
def test_a_connection_string_that_libpq_reads_is_taken(url: str) -> None:
    assert Settings.from_environ({"DATABASE_URL": url}).database == url


def test_a_host_may_be_the_folder_of_a_socket() -> None:
    for host in ("/run/u@h", "@abstract", "::1"):
        found = Settings.from_environ({"DB_HOST": host}).database
        assert conninfo_to_dict(found or "")["host"] == host


@pytest.mark.parametrize(
    ("environ", "unused"),
    [
        ({}, []),
        ({"DB_HOST": "h", "DB_USER": "u", "PGUSER": "u"}, []),
        ({"DB_PORT": "1", "DB_NAME": "", "DB_PASS_FILE": "f"}, ["DB_PORT", PASS_FILE]),
        ({"DATABASE_URL": "d", "DB_NAME": "n", "PGUSER": "u"}, ["DB_NAME"]),
        ({"PGDATABASE": "d", "PGUSER": "u"}, ["PGUSER", "PGDATABASE"]),
        ({"PGHOST": "h", "PGUSER": "u"}, []),
    ],
)
def test_names_that_say_nothing_without_a_host(
    environ: dict[str, str], unused: list[str]
) -> None:
    assert unused_names(environ) == unused


def test_how_many_rejects_are_allowed() -> None:
    limit = Settings.from_environ({}).max_rejects
    assert str(limit) == "10%"
    assert limit.allows(1, 10)
    assert not limit.allows(2, 19)
    assert limit.allows(0, 0)
    for text, allowed, refused in (
        ("0", (0, 9), (1, 9)),
        ("3", (3, 3), (4, 10**9)),
        ("0%", (0, 9), (1, 9)),
        ("2.5%", (25, 1000), (26, 1000)),
        ("100%", (7, 7), None),
    ):
        limit = Settings.from_environ({"MAX_REJECTS": text}).max_rejects
        assert limit.allows(*allowed)
        assert refused is None or not limit.allows(*refused)


@pytest.mark.parametrize(
    "text", ["x", "-1", "1.5", "150%", "100.1%", "%", "5%%", " 5", "1e3"]
)
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(
        SettingsError,
        match="MAX_REJECTS: .* is neither a whole number of records nor a percentage"
        " from 0% to 100%, such as 10%$",
    ):
        Settings.from_environ({"MAX_REJECTS": text})
