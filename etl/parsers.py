"""The values that settings have, read from text: each parser raises ValueError with
what is wrong. Knows no setting by name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from yarl import URL

#: A longer token would not fit into the line of a header, which aiohttp bounds to 8190
#: bytes.
MAX_TOKEN = 4096

#: An origin as browsers send it, without a path. (``null`` is many origins at once.)
ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?"
)

#: A name of a host, without a port.
HOST = re.compile(r"[a-z0-9_]([a-z0-9._-]{0,252}[a-z0-9_])?")

#: Bytes of each unit, as PostgreSQL has them.
UNITS = {"": 1, "b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}

#: Seconds from one look of WATCH to the next. In less, a file that is being written may
#: well look as if it were at rest.
WATCH_BOUNDS = (0.1, 86_400)


def folder(text: str) -> Path:
    """The absolute path of a folder."""
    if not os.path.isdir(text):  # noqa: PTH112 (Path raises without permission)
        raise ValueError(f"{Path(text).absolute()} is not a folder that can be read")
    return Path(text).absolute()


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """A number within these bounds."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
            raise ValueError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return parse


def watch(text: str) -> float:
    """Seconds between two looks at the files; 0 for none."""
    least, most = WATCH_BOUNDS
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII):
        seconds = float(text)
        if seconds == 0 or least <= seconds <= most:
            return int(seconds) if seconds.is_integer() else seconds
    raise ValueError(
        f"{text!r} is neither 0, which is off, nor a number of seconds from {least} to"
        f" {most}"
    )


def one_of(*words: str) -> Callable[[str], str]:
    """One of these words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is not one of {', '.join(words)}")
        return text

    return parse


def on_or_off(text: str) -> bool:
    """Whether something is on."""
    return one_of("on", "off")(text) == "on"


def size(text: str) -> int:
    """Bytes, with a unit of PostgreSQL's settings or without: 1 MB is 1024 kB."""
    found = re.fullmatch(r"(\d{1,15}) *([kmgt]?b|)", text, re.ASCII | re.IGNORECASE)
    if found and int(found[1]):
        return int(found[1]) * UNITS[found[2].lower()]
    raise ValueError(f"{text!r} is not a size such as 500MB, 2GB or 1000000 bytes")


def token(text: str) -> str:
    """A token that a header can carry; no message contains it."""
    if not re.fullmatch(f"[!-~]{{1,{MAX_TOKEN}}}", text):
        raise ValueError(
            f"a token is up to {MAX_TOKEN} visible ASCII characters without spaces"
        )
    return text


def origins(text: str) -> frozenset[str]:
    """The origins whose pages may read answers, as browsers write them; or ``*``."""
    what = "an origin such as https://app.example.com"
    return frozenset(str(URL(origin)) for origin in _listed(text, ORIGIN, what))


def networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Addresses, and networks such as 10.0.0.0/8."""
    listed = [each.strip() for each in text.split(",")]
    try:
        return tuple(map(ip_network, listed))
    except ValueError as error:
        raise ValueError(
            f"{error}: addresses or networks with commas between, such as"
            " 127.0.0.1,10.0.0.0/8"
        ) from None


def hosts(text: str) -> frozenset[str]:
    """The names under which a service is reached; or ``*``."""
    what = "the name of a host such as etl.example.com, without a port"
    return frozenset(_listed(text, HOST, what))


def _listed(text: str, pattern: re.Pattern[str], what: str) -> list[str]:
    """What a list has, in lower case; each fits the pattern, or ``*`` is alone."""
    listed = [each.strip().lower() for each in text.split(",")]
    for each in listed:
        if listed != ["*"] and not pattern.fullmatch(each):
            raise ValueError(f"{each!r} is not {what} (* is all, and must be alone)")
    return listed
