"""Says what is wrong with a SQL file, and where in it, as the server reports it.

Knows how Postgres reports positions, and nothing of what the files do.
"""

from __future__ import annotations

import re

import psycopg
from psycopg import AsyncCursor, OperationalError
from psycopg.errors import Diagnostic
from psycopg.pq import ExecStatus

from etl.sqlfiles import SqlFile, locate

#: Characters of each part of a message: an unterminated string quotes the whole rest of
#: its file.
MAX_LENGTH = 300

#: What is wrong with a file of nothing but comments, which may well be a mistake.
NO_STATEMENT = "holds no statement: remove it, or fill it"

#: The line of an error's context that names a function, and its line in a DO block.
_FUNCTION = re.compile(r"^(?:PL/\w+|SQL) function .+$", re.MULTILINE)
_LINE_OF_BLOCK = re.compile(r"^PL/pgSQL function inline_code_block line (\d+)", re.M)

#: Where the body of a DO block begins.
_BLOCK = re.compile(r"^\s*do\s+(?:language\s+\w+\s+)?\$\w*\$", re.I | re.M)


def describe(file: SqlFile, error: psycopg.Error, sent_before: int = 0) -> str:
    """Where the error of a file is, and the server's message, detail and hint, in one
    line: ``build/020_a.sql, line 3, column 8: column "b" does not exist``.

    ``sent_before`` characters were sent before ``file.text``. Without a position it
    names the file alone; and the function, where the error is inside one.
    """
    diagnostic = error.diag
    if diagnostic.message_primary is None:  # psycopg says it, and not the server
        if str(error).startswith("COPY"):
            return f"{file.path}: a SQL file cannot copy from stdin or to stdout"
        return f"{file.path}: {_shorten(str(error)) or type(error).__name__}"
    parts = [
        diagnostic.message_primary,
        diagnostic.message_detail,
        diagnostic.message_hint,
    ]
    sentences = [_shorten(part) for part in parts if part]
    message = " ".join(
        each if each[-1] in ".!?" else f"{each}." for each in sentences[:-1]
    )
    message = f"{message} {sentences[-1]}".lstrip()
    position = _position(file.text, diagnostic, sent_before)
    function = _FUNCTION.search(diagnostic.context or "")
    if function and not (position and "inline_code_block" in function[0]):
        message += f" (in {_shorten(function[0])})"
    return (
        f"{file.path}, {position}: {message}" if position else f"{file.path}: {message}"
    )


def had_no_statement(cursor: AsyncCursor) -> bool:
    """Whether the file that a cursor has just executed is nothing but comments."""
    result = cursor.pgresult
    return result is not None and result.status == ExecStatus.EMPTY_QUERY


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection is lost, or there was none, and not only the statement."""
    state = error.sqlstate
    return isinstance(error, OperationalError) and (
        state is None or state.startswith(("08", "57P0"))
    )


def one_line(error: BaseException) -> str:
    """The server's message with its detail, or the error's own text, on one line."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        parts = [error.diag.message_primary, error.diag.message_detail]
        return ": ".join(" ".join(part.split()) for part in parts if part)
    return " ".join(str(error).split()) or type(error).__name__


def _position(text: str, diagnostic: Diagnostic, sent_before: int) -> str | None:
    """The line and column that the server reports, or the line in the one DO block."""
    if diagnostic.statement_position:
        # What is missing at the end is missing after the last word.
        offset = int(diagnostic.statement_position) - 1 - sent_before
        if offset < 0:  # in what the engine sent before it
            return None
        return locate(text, min(offset, len(text.rstrip())))
    line = _LINE_OF_BLOCK.search(diagnostic.context or "")
    blocks = list(_BLOCK.finditer(text))
    if line is None or len(blocks) != 1:
        return None
    return f"line {text.count(chr(10), 0, blocks[0].end()) + int(line[1])}"


def _shorten(text: str) -> str:
    """One line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_LENGTH else f"{line[:MAX_LENGTH]}…"
