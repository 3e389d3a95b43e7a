"""Hostile CSV files, made by a grammar: each is taken or refused with a clear error."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from tests.support.harm.data import HEADERS
from tests.support.harm.report import Report, shortened
from tests.support.harm.service import Service

DELIMITERS = (*[","] * 12, "\t", ";", "|", ":", " ", "\x1f", '"')
LINE_ENDS = (*["\n"] * 12, "\r\n", "\r\n", "\r", "\n\r", "\n\n", "\v", "\x85", "\u2028")
ENCODINGS = (*["utf-8"] * 20, "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252")

#: Of each column, values that are good, and that only look so.
GOOD = {
    "user_id": ("1", "2", "3", "007", "+4", " 5 ", "6.0"),
    "experiment_id": ("1", "2", "3", "9223372036854775807"),
    "compound_id": ("1", "2", "3"),
    "signup_date": ("2024-02-29", "", "0001-01-01", "9999-12-31"),
    "experiment_compound_ids": ("1;2", "", "3", ";;1;", "2; 3"),
    "experiment_run_time": ("1.5", "1e2", "", ".5"),
}
TEXTS = ("Ann", "", "É", "\U0001f600", "a,b", "x" * 50, "null", "\\N", "\\.", "=1+1")

HOSTILE = (
    *('"', '""', '"a', 'a"b', '"a"b"', '"a\nb"', '"a\r\nb', "'", "\\", "\\\\", "\\n"),
    *("\0", "\0\0\0", "a\0b", "\x1a", "\x7f", "\ufeff", "\ufffe", "\u202e", "e\u0301"),
    *("NaN", "-inf", "1e400", "1e-400", "99999999999999999999", "-1", "0x10", "1_0"),
    *("2023-02-30", "today", "infinity", "0000-00-00", "24-1-1", "10000000-01-01"),
    *("1,5", "1;x", ";" * 2000, "1;" * 3000, "{1,2}", "(1)", "$1", "%s", "{}"),
    *("'; drop table features; --", "$$", "<script>", "\t", " ", "\n", "\r"),
    *("9" * 5000, "x" * 200_000, "\udcff", "\udc80\udcbf", "\udced\udca0\udc80"),
)


def files(folder: Path, rng: Random, times: int, report: Report) -> None:
    """So many sets of files, the last half of them with ``MAX_REJECTS=100%``."""
    data = folder / "data"
    data.mkdir()
    for limit in ("10%", "100%"):
        service = Service(folder, MAX_REJECTS=limit)
        service.start()
        try:
            _write_good(data)
            service.get("/trigger_etl?full=true")
            postmaster = service.postmaster()
            for _ in report.rounds(times // 2):
                _one(service, data, rng, report)
            report.require(
                service.postmaster() == postmaster, "no file ends a process of Postgres"
            )
            _write_good(data)
            status, body = service.get("/trigger_etl")
            report.require(status == 200, "good files are taken again", body)
            report.require(len(json.loads(service.features())) == 3, "all users arrive")
        finally:
            service.close()
        report.require(
            not service.tracebacks, "no traceback in the log", service.tracebacks
        )


def _one(service: Service, data: Path, rng: Random, report: Report) -> None:
    """One set, of which one file or more is hostile."""
    _write_good(data)
    hostile = rng.sample(list(HEADERS), rng.choice([1, 1, 1, 2, 3]))
    for table in hostile:
        (data / f"{table}.csv").write_bytes(hostile_file(rng, table))
    old = service.features()
    status, body = service.get("/trigger_etl")
    report.counts[f"answer {status}"] += 1
    kept = folder_of(data, hostile) if status not in (200, 422) else ""
    report.require(
        status in (200, 422), "answers 200 or 422", status, shortened(body), kept
    )
    if status == 422:
        error = str(body["result"])
        names = ".csv" in error or "check/" in error
        is_line = "\n" not in error and len(error) < 2000
        report.require(names and is_line, "the error says which file", error)
        report.require(service.features() == old, "old features are kept", error)
    else:
        rows = json.loads(service.features())
        ids = {row["user_id"] for row in rows}
        report.require(len(ids) == len(rows), "each user is published once", rows)


def folder_of(data: Path, tables: list[str]) -> str:
    """The hostile files themselves, for who reads of a violation."""
    contents = {name: (data / f"{name}.csv").read_bytes()[:300] for name in tables}
    return repr(contents)


def hostile_file(rng: Random, table: str) -> bytes:
    """The bytes of a file: a header, records, an encoding, and damage."""
    columns = HEADERS[table].split(",")
    delimiter, line_end = rng.choice(DELIMITERS), rng.choice(LINE_ENDS)
    badness = rng.choice([0.0, 0.005, 0.02, 0.1, 0.5])
    lines = [delimiter.join(_header(rng, columns))]
    for number in range(rng.choice([0, 1, 3, 10, 10, 100])):
        lines.append(delimiter.join(_record(rng, columns, badness, number + 1)))
    text = ""
    for line in lines:
        is_other = rng.random() < badness
        text += line + (rng.choice(LINE_ENDS) if is_other else line_end)
    text = text.removesuffix(line_end) if rng.random() < 0.3 else text
    encoding = rng.choice(ENCODINGS)
    errors = (
        "surrogateescape" if encoding == "utf-8" else "replace"
    )  # to bytes not UTF-8
    content = text.encode(encoding, errors)
    return _damaged(rng, content)


def _header(rng: Random, columns: list[str]) -> list[str]:
    header = list(columns)
    match rng.randrange(32):
        case 0:
            rng.shuffle(header)
        case 1:
            header.append(rng.choice(columns))  # twice
        case 2:
            header.remove(rng.choice(columns))
        case 3:
            header.insert(rng.randrange(4), rng.choice(["", "note", '"', *HOSTILE]))
        case 4:
            header = [f'"{name}"' for name in header]
        case 5:
            header = [f" {name.upper()}\t" for name in header]
        case 6:
            header = [rng.choice(HOSTILE) for _ in header]
        case 7:
            header = []
    return header


def _record(rng: Random, columns: list[str], badness: float, key: int) -> list[str]:
    """A record with hostile values or a wrong number of fields, at times."""
    values = [
        rng.choice(HOSTILE if rng.random() < badness else GOOD.get(name, TEXTS))
        for name in columns
    ]
    if rng.random() >= badness:
        values[0] = str(key)
    if rng.random() < badness:
        values = rng.choice([values[:-1], [*values, "more"], [], values * 100])
    if rng.random() < badness:
        values = [f'"{value}"' for value in values]
    return values


def _damaged(rng: Random, content: bytes) -> bytes:
    match rng.randrange(20):
        case 0:
            return content[: rng.randint(0, len(content))]
        case 1:
            where = rng.randint(0, len(content))
            return content[:where] + rng.randbytes(rng.randint(1, 40)) + content[where:]
        case 2:
            return content + bytes(rng.randint(1, 5000))
        case 3 if rng.random() < 0.2:
            return rng.randbytes(rng.randint(0, 5000))
    return content


def _write_good(data: Path) -> None:
    records = {
        "users": "1,A,,\n2,B,,\n3,C,,\n",
        "user_experiments": "1,1,1,1\n2,2,1;2,2\n",
        "compounds": "1,C1,H\n2,C2,O\n",
    }
    for table, text in records.items():
        (data / f"{table}.csv").write_text(f"{HEADERS[table]}\n{text}")
