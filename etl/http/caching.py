"""What was published last, and whether a reader has it already (RFC 9110, section 13).

The version comes from the database, made of the files of data and SQL that went into
``features``; see etl/functions/080_reading.sql. Reads no row.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from multidict import CIMultiDict, CIMultiDictProxy

#: A reader may keep an answer, and must ask each time whether it still holds.
CACHE_CONTROL = "no-cache"

_TAG = re.compile(r'(?:W/)?"([^"]*)"')


@dataclass(frozen=True)
class State:
    """What was published last: run and second are None before the first run.

    ``columns`` is the digest of the table's columns; ``is_dated`` says whether the
    second alone tells this state from the one before.
    """

    run_id: int | None
    modified: int | None
    version: str
    columns: str
    is_dated: bool


@dataclass(frozen=True)
class Asked:
    """One form of one answer: ``digest`` names the query, ``coding`` may be None."""

    digest: str
    vary: str
    coding: str | None = None

    def tag(self, state: State) -> str:
        """The strong entity tag, without its quotes; each coding has its own."""
        coding = f"-{self.coding}" if self.coding else ""
        return f"{state.version}-{self.digest}{coding}"

    def headers(self, state: State) -> CIMultiDict[str]:
        """What every answer carries, and one of 304 too."""
        headers = CIMultiDict(
            {
                "ETag": f'"{self.tag(state)}"',
                "Cache-Control": CACHE_CONTROL,
                "Vary": self.vary,
            }
        )
        if state.run_id is not None and state.modified is not None:
            headers["X-Run-Id"] = str(state.run_id)
            headers["Last-Modified"] = _http_date(state.modified)
        return headers


def is_conditional(headers: Mapping[str, str]) -> bool:
    """Whether the reader has something already, and says what."""
    return "If-None-Match" in headers or "If-Modified-Since" in headers


def is_known(headers: CIMultiDictProxy[str], state: State, asked: Asked) -> bool:
    """Whether the reader has this answer: by its tag, or if it names none, by date."""
    if "If-None-Match" in headers:
        return _names(headers.getall("If-None-Match"), asked.tag(state))
    since = _seconds(headers.get("If-Modified-Since", ""))
    if since is None or state.modified is None:
        return False
    return state.is_dated and state.modified <= since


def _names(lines: Iterable[str], tag: str) -> bool:
    """Whether a list of tags names this one, or any; compared weakly, as is due."""
    listed = ",".join(lines).strip()
    return listed == "*" or tag in _TAG.findall(listed)


@lru_cache(8)
def _http_date(seconds: int) -> str:
    return email.utils.formatdate(seconds, usegmt=True)


def _seconds(date: str) -> float | None:
    """The seconds of a date in a header, None for what is none."""
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
