"""The shipped data in the forms that people's files have: the answer stays the same."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from tests.support.client import Client, features, trigger

Form = Callable[[list[list[str]]], bytes]


def _written(
    delimiter: str, quoting: Literal[0, 1] = csv.QUOTE_MINIMAL, tab: str = ""
) -> Form:
    def form(records: list[list[str]]) -> bytes:
        text = io.StringIO()
        writer = csv.writer(
            text, delimiter=delimiter, quoting=quoting, lineterminator="\n"
        )
        for record in records:
            writer.writerow([record[0], *(tab + value for value in record[1:])])
        return text.getvalue().encode()

    return form


def _changed(change: Callable[[bytes], bytes], form: Form | None = None) -> Form:
    return lambda records: change((form or _written(","))(records))


def _columns_reversed(records: list[list[str]]) -> bytes:
    return _written(",")([record[::-1] for record in records])


def _blank_lines(data: bytes) -> bytes:
    return b"\n \t\n" + data.replace(b"\n", b"\n\n  \n\t\n") + b"\n\n"


FORMS: dict[str, Form] = {
    "plain_commas": _written(","),
    "tab_after_comma": _written(",", tab="\t"),
    "all_quoted": _written(",", csv.QUOTE_ALL),
    "all_quoted_tab_inside": _written(",", csv.QUOTE_ALL, tab="\t"),
    "tab_then_quote": _changed(
        lambda data: data.replace(b'","', b'",\t"'), _written(",", csv.QUOTE_ALL)
    ),
    "tabs": _written("\t"),
    "semicolons": _written(";"),
    "bars": _written("|"),
    "bars_and_blanks": _written("|", tab=" "),
    "crlf": _changed(lambda data: data.replace(b"\n", b"\r\n")),
    "crlf_blank_lines": _changed(lambda data: data.replace(b"\n", b"\r\n\r\n")),
    "mixed_line_ends": _changed(
        lambda data: data.replace(b"\n", b"\r\n", 4).replace(b"\r\n", b"\n", 1)
    ),
    "byte_order_mark": _changed(lambda data: b"\xef\xbb\xbf" + data),
    "byte_order_mark_all_quoted": _changed(
        lambda data: b"\xef\xbb\xbf" + data, _written(",", csv.QUOTE_ALL)
    ),
    "blank_lines_anywhere": _changed(_blank_lines),
    "no_newline_at_the_end": _changed(lambda data: data.rstrip(b"\n")),
    "columns_in_another_order": _columns_reversed,
    "capitals_in_the_header": _changed(
        lambda data: data.split(b"\n", 1)[0].upper() + b"\n" + data.split(b"\n", 1)[1]
    ),
}


async def test_forms(subtests: pytest.Subtests, client: Client, data_dir: Path) -> None:
    await trigger(client)
    shipped = await features(client)
    files = {path: path.read_text() for path in data_dir.glob("*.csv")}
    for name, form in FORMS.items():
        with subtests.test(form=name):
            for path, text in files.items():
                lines = text.strip().splitlines()
                records = [
                    [value.strip() for value in each.split(",")] for each in lines
                ]
                path.write_bytes(form(records))
            answer = await trigger(client, full="true")
            loaded = [file["records"] for file in answer["run"]["files"]]
            assert loaded == [3, 11, 10]
            assert await features(client) == shipped
