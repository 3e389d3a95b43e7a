"""Reads a text from left to right by patterns, and says where it stops to match."""

from __future__ import annotations

import re

from etl.errors import BadParameter, truncated

#: PostgREST's code for a text that its grammar has no rule for.
UNPARSABLE = "PGRST100"


class Scanner:
    """A text, and how far it has been read. ``shown`` is the text as it was sent."""

    def __init__(self, what: str, text: str, shown: str | None = None) -> None:
        self.what, self.text, self.position = what, text, 0
        self._shown = text if shown is None else shown

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Read what the pattern matches here, if it does."""
        found = pattern.match(self.text, self.position)
        if found:
            self.position = found.end()
        return found

    def expect(self, pattern: re.Pattern[str], expected: str) -> re.Match[str]:
        """Read what the pattern matches here; raises BadParameter if it does not."""
        found = self.take(pattern)
        if found is None:
            raise self.error(expected)
        return found

    def error(self, expected: str, detail: str | None = None) -> BadParameter:
        """What is wrong here, as PostgREST words it, and as a sentence."""
        rest = self.text[self.position : self.position + 1]
        found = f'"{rest}"' if rest else "end of input"
        where = f'"failed to parse {self.what} ({self._shown})" (line 1, column'
        return BadParameter(
            detail
            or f"{self.what} {truncated(self._shown)}: {found} where {expected}"
            " is expected",
            code=UNPARSABLE,
            message=f"{where} {self.position + 1})",
            details=f"unexpected {found} expecting {expected}",
        )


def is_text(value: str) -> bool:
    """Whether Postgres can store it: it has no NUL and no half of a character."""
    return "\0" not in value and not re.search("[\ud800-\udfff]", value)
