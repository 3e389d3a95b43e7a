"""What calls of PostgREST's clients should come to, and how that is compared.

The expected answers follow from PostgREST's documentation and specifications.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Answer:
    """A status and data, or an error with some of its members.

    Rows of a call that asks for no order may come in any; ``status`` is None where a
    client does not say it.
    """

    status: int | None = 200
    data: Any = None
    count: int | None = None
    error: Mapping[str, Any] | None = None
    ordered: bool = True

    def of(self, count: int, status: int = 200) -> Answer:
        """The same with this total number of rows."""
        return replace(self, count=count, status=status)


@dataclass(frozen=True)
class Got:
    """What a call came to, and the requests that it sent, where they are known."""

    status: int | None
    data: Any = None
    count: int | None = None
    error: Mapping[str, Any] | None = None
    sent: Any = None


def users(*numbers: int) -> Answer:
    """These users, in any order, with their numbers alone."""
    return Answer(data=_numbered(numbers), ordered=False)


def in_order(*numbers: int) -> Answer:
    """These users in this order, with their numbers alone."""
    return Answer(data=_numbered(numbers))


def rows(*found: dict[str, Any]) -> Answer:
    """These rows, in this order."""
    return Answer(data=list(found))


def any_order(*found: dict[str, Any]) -> Answer:
    """These rows, in any order."""
    return Answer(data=list(found), ordered=False)


def data(found: Any) -> Answer:
    return Answer(data=found)


def error(status: int, code: str, **members: Any) -> Answer:
    """An error with this code, a message, and these members as they are given."""
    return Answer(status, error={"code": code, **members})


def require(answer: Answer, got: Got) -> None:
    """Fail unless a call came to this answer; the message has all of both."""
    said = f"expected {answer}\ngot {got}"
    assert (got.error is None) == (answer.error is None), said
    if answer.status is not None and got.status is not None:
        assert got.status == answer.status, said
    if answer.error is not None and got.error is not None:
        given = {name: got.error.get(name) for name in answer.error}
        assert given == answer.error, said
        assert got.error.get("message"), said
        return
    expected, found = answer.data, got.data
    if not answer.ordered and isinstance(found, list):
        expected, found = (sorted(each, key=json.dumps) for each in (expected, found))
    assert found == expected, said
    assert got.count == answer.count, said


def _numbered(numbers: tuple[int, ...]) -> Rows:
    return [{"user_id": number} for number in numbers]
