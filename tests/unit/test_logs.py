"""Log lines: one a message, whatever stands in it, as text or JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import ClientConnectionResetError

from etl.http.protocol import RequestLog
from etl.logs import RUN, JsonLines, TextLines, start_logging

FORMATTERS = [TextLines(), TextLines("%(message)s"), JsonLines()]

HOSTILE = "a\nb\r\x1b[2K\x00\u2028\u202e\udcff\u00e9"


def record(message: str, *args: object, **more: Any) -> logging.LogRecord:
    return logging.LogRecord(
        "etl.test", logging.INFO, "x.py", 1, message, args, more.get("exc_info")
    )


def in_run(number: int, formatter: logging.Formatter, message: str) -> str:
    def write() -> str:
        RUN.set(number)
        return formatter.format(record(message))

    return copy_context().run(write)


@pytest.mark.parametrize("formatter", FORMATTERS, ids=lambda each: type(each).__name__)
def test_nothing_breaks_a_line(formatter: logging.Formatter) -> None:
    line = formatter.format(record("%s", HOSTILE))
    assert line.isprintable()
    assert "a\\n" in line
    traced = _traced(formatter, HOSTILE)
    assert "ValueError" in traced
    assert traced.splitlines()[0].isprintable()
    assert len(traced.splitlines()) == 1 or not isinstance(formatter, JsonLines)


def _traced(formatter: logging.Formatter, message: str) -> str:
    try:
        raise ValueError
    except ValueError:
        return formatter.format(record(message, exc_info=sys.exc_info()))


def test_text_has_the_time_of_this_machine() -> None:
    made = record("words")
    expected = logging.Formatter("%(asctime)s %(levelname)s %(message)s").format(made)
    assert TextLines().format(made) == expected
    assert TextLines("%(message)s").format(made) == "words"


def test_json_has_the_values_of_its_message() -> None:
    values = {"file": "build/010_x.sql", "milliseconds": 1.5, "level": "no"}
    made = record("%(file)s in %(milliseconds).1f ms", values)
    made.created, made.msecs = 1_700_000_000.007, 7.0
    assert json.loads(JsonLines().format(made)) == {
        "time": "2023-11-14T22:13:20.007Z",
        "level": "INFO",
        "logger": "etl.test",
        "message": "build/010_x.sql in 1.5 ms",
        "file": "build/010_x.sql",
        "milliseconds": 1.5,
    }
    assert "ValueError" in json.loads(_traced(JsonLines(), "x"))["exception"]


def test_lines_of_a_run_name_it_once() -> None:
    assert in_run(7, TextLines(), "done").endswith(" INFO run 7: done")
    assert in_run(7, TextLines(), "run 7 has ended").endswith(" INFO run 7 has ended")
    assert in_run(7, TextLines(), "run 77 has ended").endswith(
        "run 7: run 77 has ended"
    )
    assert json.loads(in_run(7, JsonLines(), "done"))["run"] == 7
    assert "run" not in json.loads(JsonLines().format(record("done")))


async def test_a_request_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """Written at the end of the turn, with those of other requests."""
    caplog.set_level("INFO")
    log = RequestLog(logging.getLogger("etl.test"))
    request = SimpleNamespace(
        remote="::1", method="GET", path="/features", path_qs="/features?limit=1"
    )
    response = SimpleNamespace(status=200, body_length=12)
    for turn in (1, 2):
        for seconds in (0.0123456789, 7):
            log.log(cast(Any, request), cast(Any, response), seconds)
        await asyncio.sleep(0)
        assert len(caplog.records) == 2 * turn
    made, other, *_ = caplog.records
    assert TextLines().format(other).endswith(" 200 12 bytes 7.000000 s")
    assert (
        TextLines()
        .format(made)
        .endswith("INFO ::1 GET /features?limit=1 200 12 bytes 0.012346 s")
    )
    fields = json.loads(JsonLines().format(made))
    expected: dict[str, Any] = {
        "remote": "::1",
        "method": "GET",
        "path": "/features?limit=1",
    }
    expected |= {"status": 200, "bytes": 12, "seconds": 0.012346}
    assert {name: fields[name] for name in expected} == expected


def test_clients_that_leave_or_stall_are_no_errors(
    caplog: pytest.LogCaptureFixture,
) -> None:
    start_logging(TextLines(), "INFO")
    log = logging.getLogger("aiohttp.server")
    for error in (ClientConnectionResetError("x"), TimeoutError(), ValueError("wrong")):
        log.error("Error handling request from %s", "::1", exc_info=error)
    log.error("Error handling request from %s", "::1", exc_info=None)  # as for a 504
    assert [found.exc_info[1] for found in caplog.records if found.exc_info] == [error]
