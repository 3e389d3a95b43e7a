"""The settings, read once from the environment. Knows no pipeline and no server."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from etl import parsers

PROJECT = Path(__file__).resolve().parent.parent

#: The challenge's names for a Postgres, and libpq's names for the same.
DB_NAMES = {
    "DB_HOST": "host",
    "DB_PORT": "port",
    "DB_USER": "user",
    "DB_PASS": "password",
    "DB_NAME": "dbname",
}

#: libpq's variables that say by themselves where a Postgres is.
LIBPQ_NAMES = ("PGHOST", "PGHOSTADDR", "PGSERVICE")

#: Those that only add to it: what libpq sends to the server, and its parameters.
LIBPQ_DETAILS = tuple(
    dict.fromkeys(
        ["PGDATESTYLE", "PGTZ", "PGGEQO"]
        + [each.envvar.decode() for each in Conninfo.get_defaults() if each.envvar]
    )
)

#: More streams than this only queue for the same disks and locks.
MAX_WORKERS = 64


class SettingsError(ValueError):
    """A setting that cannot be used; the message is one line that names it."""


@dataclass(frozen=True)
class RejectLimit:
    """How many records of a file a run may reject: a number, or a share in percent."""

    most: Decimal
    in_percent: bool

    @classmethod
    def parse(cls, text: str) -> RejectLimit:
        """Read ``20`` or ``2.5%``; raises ValueError."""
        if re.fullmatch(r"\d{1,18}", text, re.ASCII):
            return cls(Decimal(text), in_percent=False)
        if re.fullmatch(r"(100|\d{1,2}(\.\d{1,6})?)%", text, re.ASCII):
            return cls(Decimal(text[:-1]), in_percent=True)
        raise ValueError(
            f"{text!r} is neither a whole number of records nor a percentage from 0% to"
            " 100%, such as 10%"
        )

    def allows(self, rejected: int, records: int) -> bool:
        """Whether so many of a file's records may be rejected."""
        if self.in_percent:
            return rejected * 100 <= self.most * records
        return rejected <= self.most

    def __str__(self) -> str:
        return f"{self.most}%" if self.in_percent else str(self.most)


def usable_cores() -> int:
    """The processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MAX_WORKERS)
    return min(os.cpu_count() or 1, MAX_WORKERS)


@dataclass(frozen=True)
class Settings:
    """All that can be set, but the database, by the field's name in capitals.

    ``database`` is a libpq connection string, empty where libpq's own variables say
    all, and None for the embedded Postgres. ``cors_origins`` and ``allowed_hosts`` may
    hold ``*`` alone. ``watch`` are seconds, 0 where the files are not watched;
    ``max_upload`` are bytes.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    data_dir: Path = PROJECT / "data"
    sql_dir: Path = PROJECT / "sql"
    state_dir: Path = PROJECT / ".state"
    load_workers: int = field(default_factory=usable_cores)
    load_through: str = "nodes"
    build_workers: int = field(default_factory=usable_cores)
    max_rejects: RejectLimit = RejectLimit(Decimal(10), in_percent=True)
    keep_runs: int = 100
    watch: float = 0
    uploads: bool = True
    max_upload: int = 2 << 30
    log_format: str = "text"
    cors_origins: frozenset[str] = frozenset()
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    allowed_hosts: frozenset[str] = frozenset()
    api_token: str | None = field(default=None, repr=False)
    api_token_read: str | None = field(default=None, repr=False)
    database: str | None = field(default=None, repr=False)

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str], pipeline: Path | None = None
    ) -> Settings:
        """Read the settings; an empty value counts as not set.

        ``pipeline`` is the folder that holds ``sql`` and ``data``, the project's by
        default. Raises SettingsError for a value that is malformed.
        """
        texts = {name: environ.get(name) for name in PARSERS}
        for name in ("API_TOKEN", "API_TOKEN_READ"):
            texts[name] = _secret(environ, name)
        for name, part in {"SQL_DIR": "sql", "DATA_DIR": "data"}.items():
            texts[name] = texts[name] or _pipeline_folder(pipeline, part)
        values = {
            name.lower(): _parse(name, PARSERS[name], text)
            for name, text in texts.items()
            if text
        }
        return cls(**values, database=_database(environ))


def _parse(name: str, parse: Callable[[str], Any], text: str) -> Any:
    """The value of a setting; raises SettingsError, which names it."""
    try:
        return parse(text)
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from None


def _pipeline_folder(pipeline: Path | None, part: str) -> str:
    """This part of the pipeline, by default of the project's."""
    folder = (pipeline or PROJECT).absolute()
    # Path.is_dir() raises where a folder above may not be entered.
    if pipeline and not os.path.isdir(folder / part):  # noqa: PTH112
        is_folder = os.path.isdir(folder)  # noqa: PTH112
        what = f"has no folder {part}" if is_folder else "is not a folder"
        raise SettingsError(
            f"FOLDER: {folder} {what}: a pipeline is a folder with sql and data in it"
        )
    return str(folder / part)


def _secret(environ: Mapping[str, str], name: str) -> str | None:
    """The value of ``name``, or the content of the file that ``name_FILE`` names."""
    value, path = environ.get(name), environ.get(f"{name}_FILE")
    if value and path:
        raise SettingsError(f"{name} and {name}_FILE are both set: keep one")
    if not path:
        return value or None
    try:
        content = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingsError(f"{name}_FILE: cannot read {path}: {reason}") from None
    if not content:
        raise SettingsError(f"{name}_FILE: {path} is empty")
    return content


#: How to parse each setting; a parser raises ValueError with what is wrong.
PARSERS: dict[str, Callable[[str], Any]] = {
    "HOST": str,
    "PORT": parsers.whole_number(0, 65535),
    "DATA_DIR": parsers.folder,
    "SQL_DIR": parsers.folder,
    "STATE_DIR": lambda text: Path(text).absolute(),
    "LOAD_WORKERS": parsers.whole_number(1, MAX_WORKERS),
    "LOAD_THROUGH": parsers.one_of("nodes", "coordinator"),
    "BUILD_WORKERS": parsers.whole_number(1, MAX_WORKERS),
    "MAX_REJECTS": RejectLimit.parse,
    "KEEP_RUNS": parsers.whole_number(1, 10**6),
    "WATCH": parsers.watch,
    "UPLOADS": parsers.on_or_off,
    "MAX_UPLOAD": parsers.size,
    "LOG_FORMAT": parsers.one_of("text", "json"),
    "CORS_ORIGINS": parsers.origins,
    "TRUSTED_PROXIES": parsers.networks,
    "ALLOWED_HOSTS": parsers.hosts,
    "API_TOKEN": parsers.token,
    "API_TOKEN_READ": parsers.token,
}


def unused_names(environ: Mapping[str, str]) -> list[str]:
    """The names of a database that are set, but unused for want of a host."""
    unused: list[str] = []
    if not environ.get("DB_HOST"):
        unused += [each for name in DB_NAMES for each in (name, f"{name}_FILE")]
    if not any(environ.get(name) for name in (*LIBPQ_NAMES, "DATABASE_URL", "DB_HOST")):
        unused += LIBPQ_DETAILS
    return [name for name in unused if environ.get(name)]


def _database(environ: Mapping[str, str]) -> str | None:
    """The connection string of the named Postgres, or None: first match wins."""
    if url := _secret(environ, "DATABASE_URL"):
        return _connection_string(url)
    for name in ("DB_HOST", "PGHOST"):
        host = environ.get(name) or ""
        if "://" in host or ("@" in host[1:] and not host.startswith("/")):
            raise SettingsError(
                f"{name}: not the name or address of a host: a URL is for DATABASE_URL"
            )
    if environ.get("DB_HOST"):
        _parse(
            "DB_PORT", parsers.whole_number(1, 65535), environ.get("DB_PORT") or "5432"
        )
        values = {libpq: environ.get(name) or None for name, libpq in DB_NAMES.items()}
        values["password"] = _secret(environ, "DB_PASS")
        return make_conninfo("", **values)
    return "" if any(environ.get(name) for name in LIBPQ_NAMES) else None


def _connection_string(url: str) -> str:
    """``url`` itself. No message contains it, nor libpq's: they quote the password.

    To libpq the first ``@`` of a URL ends the password, and the rest of one that has an
    ``@`` or a ``/`` would be the host, the port or the database, which messages name.
    """
    escapes = "in a user or a password, @ is written %40 and / is written %2F"
    credentials, _, rest = url.partition("@")
    rest = url if "/" in credentials.partition("://")[2] else rest
    if re.match("postgres(ql)?://", url) and "@" in rest.partition("?")[0]:
        raise SettingsError(f"DATABASE_URL: one @ too many: {escapes}")
    try:
        conninfo_to_dict(url)
    except ProgrammingError:
        raise SettingsError(
            "DATABASE_URL: not a connection string such as "
            f"postgresql://user:password@host:5432/dbname; {escapes}, and % is written "
            "%25"
        ) from None
    return url
