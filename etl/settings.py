"""The settings, read once from the environment. Knows no pipeline and no server."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

PROJECT = Path(__file__).resolve().parent.parent

#: The challenge's names for a Postgres, and libpq's words for the same.
DB_NAMES = {
    "DB_HOST": "host",
    "DB_PORT": "port",
    "DB_USER": "user",
    "DB_PASS": "password",
    "DB_NAME": "dbname",
}

#: libpq's variables that say by themselves where a Postgres is.
LIBPQ_NAMES = ("PGHOST", "PGHOSTADDR", "PGSERVICE")

#: Those that only add to it.
LIBPQ_DETAILS = ("PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE")

#: How a connection string begins that is a URL.
URL_SCHEMES = ("postgresql://", "postgres://")

#: How log lines may be written; the first is the default.
LOG_FORMATS = ("text", "json")

#: Longer tokens would not fit into the line of a header, of which aiohttp takes 8190
#: bytes.
LONGEST_TOKEN = 4096

#: An origin as browsers send it, without a path. (``null`` is many origins at once.)
ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?"
)

#: Browsers leave these out of an origin.
DEFAULT_PORTS = (("http://", ":80"), ("https://", ":443"))

#: More streams than this only queue for the same disks and locks.
MOST_WORKERS = 64


class SettingsError(ValueError):
    """A setting that cannot be used; the message is one line that names it."""


@dataclass(frozen=True)
class RejectLimit:
    """How many records of a file a run may reject: a number, or a share in percent."""

    most: Decimal
    in_percent: bool

    @classmethod
    def parse(cls, text: str) -> RejectLimit:
        """Read ``20`` or ``2.5%``; raises SettingsError."""
        number, percent, rest = text.partition("%")
        form = r"\d{1,3}(\.\d{1,6})?" if percent else r"\d{1,18}"
        if (
            rest
            or not re.fullmatch(form, number, re.ASCII)
            or (percent and Decimal(number) > 100)
        ):
            raise SettingsError(
                f"MAX_REJECTS: {text!r} is neither a whole number of records nor a "
                "percentage from 0% to 100%, such as 10%"
            )
        return cls(Decimal(number), in_percent=bool(percent))

    def allows(self, rejected: int, records: int) -> bool:
        """Whether so many of a file's records may be rejected."""
        if self.in_percent:
            return rejected * 100 <= self.most * records
        return rejected <= self.most

    def __str__(self) -> str:
        return f"{self.most}%" if self.in_percent else str(self.most)


@dataclass(frozen=True)
class Settings:
    """All that can be set. Relative defaults stand below the project's folder.

    ``database`` is a libpq connection string, empty where libpq's own variables say
    all, and None for the embedded Postgres. ``cors_origins`` may hold ``*`` alone.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    data_dir: Path = PROJECT / "data"
    sql_dir: Path = PROJECT / "sql"
    state_dir: Path = PROJECT / ".state"
    load_workers: int = 1
    build_workers: int = 1
    max_rejects: RejectLimit = RejectLimit(Decimal(10), in_percent=True)
    keep_runs: int = 100
    log_json: bool = False
    cors_origins: frozenset[str] = frozenset()
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
        cores = usable_cores()
        sql_dir = _pipeline_folder(environ, "SQL_DIR", pipeline, "sql")
        data_dir = _pipeline_folder(environ, "DATA_DIR", pipeline, "data")
        for name, folder in {"SQL_DIR": sql_dir, "DATA_DIR": data_dir}.items():
            if not os.path.isdir(folder):  # noqa: PTH112 (Path raises where none may look)
                raise SettingsError(
                    f"{name}: {folder} is not a folder that can be read"
                )
        return cls(
            host=environ.get("HOST") or cls.host,
            port=_whole_number(environ, "PORT", cls.port, 0, 65535),
            data_dir=data_dir,
            sql_dir=sql_dir,
            state_dir=Path(environ.get("STATE_DIR") or cls.state_dir).absolute(),
            load_workers=_whole_number(environ, "LOAD_WORKERS", cores, 1, MOST_WORKERS),
            build_workers=_whole_number(
                environ, "BUILD_WORKERS", cores, 1, MOST_WORKERS
            ),
            max_rejects=RejectLimit.parse(environ.get("MAX_REJECTS") or "10%"),
            keep_runs=_whole_number(environ, "KEEP_RUNS", cls.keep_runs, 1, 10**6),
            log_json=_choice(environ, "LOG_FORMAT", LOG_FORMATS) == "json",
            cors_origins=_origins(environ),
            api_token=_token(environ, "API_TOKEN"),
            api_token_read=_token(environ, "API_TOKEN_READ"),
            database=_database(environ),
        )


def usable_cores() -> int:
    """The processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MOST_WORKERS)
    return min(os.cpu_count() or 1, MOST_WORKERS)


def _pipeline_folder(
    environ: Mapping[str, str], name: str, pipeline: Path | None, part: str
) -> Path:
    """The folder that a setting names, else this part of the pipeline, which has it."""
    if environ.get(name) or pipeline is None:
        return Path(environ.get(name) or PROJECT / part).absolute()
    folder = pipeline.absolute()
    if not (folder / part).is_dir():
        what = f"has no folder {part}" if folder.is_dir() else "is not a folder"
        raise SettingsError(
            f"FOLDER: {folder} {what}: a pipeline is a folder with sql and data in it"
        )
    return folder / part


def _whole_number(
    environ: Mapping[str, str], name: str, default: int, least: int, most: int
) -> int:
    text = environ.get(name) or str(default)
    if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
        raise SettingsError(
            f"{name}: {text!r} is not a whole number from {least} to {most}"
        )
    return int(text)


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


def _token(environ: Mapping[str, str], name: str) -> str | None:
    """A token that a header can carry; no message shows it."""
    token = _secret(environ, name)
    if token and not re.fullmatch(f"[!-~]{{1,{LONGEST_TOKEN}}}", token):
        raise SettingsError(
            f"{name}: a token is up to {LONGEST_TOKEN} visible ASCII characters "
            "without spaces"
        )
    return token


def _choice(environ: Mapping[str, str], name: str, values: Sequence[str]) -> str:
    value = environ.get(name) or values[0]
    if value not in values:
        raise SettingsError(f"{name}: {value!r} is not one of {', '.join(values)}")
    return value


def _origins(environ: Mapping[str, str]) -> frozenset[str]:
    """The origins whose pages may read answers, as browsers write them; or ``*``."""
    text = environ.get("CORS_ORIGINS") or ""
    origins = {_origin(part.strip()) for part in text.split(",")} if text else set()
    if "*" in origins and len(origins) > 1:
        raise SettingsError("CORS_ORIGINS: * is every origin, and stands alone")
    return frozenset(origins)


def _origin(text: str) -> str:
    origin = text.lower()
    if origin != "*" and not ORIGIN.fullmatch(origin):
        raise SettingsError(
            f"CORS_ORIGINS: {text!r} is no origin such as https://app.example.com, "
            "and not *"
        )
    for scheme, port in DEFAULT_PORTS:
        if origin.startswith(scheme):
            origin = origin.removesuffix(port)
    return origin


def unused_names(environ: Mapping[str, str]) -> list[str]:
    """The names of a database that are set and say nothing: no host goes with them."""
    found = []
    if not environ.get("DB_HOST"):
        names = [each for name in DB_NAMES for each in (name, f"{name}_FILE")]
        found += [name for name in names if environ.get(name)]
    if not any(environ.get(name) for name in (*LIBPQ_NAMES, "DATABASE_URL", "DB_HOST")):
        found += [name for name in LIBPQ_DETAILS if environ.get(name)]
    return found


def _database(environ: Mapping[str, str]) -> str | None:
    """The connection string of the named Postgres, or None: first match wins."""
    url = _secret(environ, "DATABASE_URL")
    if url:
        return _connection_string(url)
    for name in ("DB_HOST", "PGHOST"):
        host = environ.get(name) or ""
        if "://" in host or ("@" in host[1:] and not host.startswith("/")):
            raise SettingsError(
                f"{name}: not the name or address of a host: a URL is for DATABASE_URL"
            )
    if environ.get("DB_HOST"):
        _whole_number(environ, "DB_PORT", 5432, 1, 65535)
        values = {libpq: environ.get(name) for name, libpq in DB_NAMES.items()}
        values["password"] = _secret(environ, "DB_PASS")
        return make_conninfo(
            "", **{key: value or None for key, value in values.items()}
        )
    if any(environ.get(name) for name in LIBPQ_NAMES):
        return ""
    return None


def _connection_string(url: str) -> str:
    """``url`` itself. No message shows it, nor libpq's words: they quote the password.

    To libpq the first ``@`` of a URL ends the password, and the rest of one that has an
    ``@`` or a ``/`` would be the host, the port or the database, which messages name.
    """
    credentials, _, rest = url.partition("@")
    rest = url if "/" in credentials.partition("://")[2] else rest
    if url.startswith(URL_SCHEMES) and "@" in rest.partition("?")[0]:
        raise SettingsError(
            "DATABASE_URL: one @ too many: in a user or a password, @ is written %40 "
            "and / is written %2F"
        )
    try:
        conninfo_to_dict(url)
    except ProgrammingError:
        raise SettingsError(
            "DATABASE_URL: not a connection string such as "
            "postgresql://user:password@host:5432/dbname; in a user or a password, "
            "% is written %25, @ is written %40 and / is written %2F"
        ) from None
    return url
