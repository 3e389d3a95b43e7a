"""Hostile requests, made by a grammar: none gets 500, and others are served."""

from __future__ import annotations

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from urllib.parse import quote_from_bytes, urlsplit

from tests.support.harm.report import Report
from tests.support.harm.service import Service, running

ORDINARY = ("GET", "GET", "GET", "POST")
METHODS = (
    *"GET POST PUT DELETE HEAD OPTIONS PATCH get TRACE CONNECT PRI G\xc9T".split(),
    *("", "X" * 9000),
)
PATHS = (
    *"/ /features /features /features /features/1 /features/%00 /runs /runs/1".split(),
    *"/runs/1/rejects /runs/1/rejects/users.csv /runs/1/events /runs/1/cancel".split(),
    *"/runs/9e9 /runs/99999999999999999999 /features/99999999999999999999".split(),
    *"/files /files/users.csv /files/../x.csv /files/%00.csv /files/a%2fb.csv".split(),
    *"/charts /charts/x /metrics /openapi.json /readyz // /%ff * features".split(),
    *"/docs http://a/features /static/../../server.py /trigger_etl".split(),
    "/" + "x" * 70_000,
)
NAMES = (
    *"select order limit offset after count facet format or and not.or user_id".split(),
    *'name signup_date wait full dry_run "limit" x bom columns on_conflict'.split(),
    "",
)
VALUES = (
    *"eq.1 gt.x in.(1,2 in.() like.*% match.( imatch.[ is.null fts(x).a cs.{1}".split(),
    *"sl.[1,2) not.not.eq.1 eq(any).{1,2} eq(all).{ (a.eq.1,b. * count() ...".split(),
    *"name::int name->a->>b user_id.sum() name.desc.nullsfirst a::text::b".split(),
    *"a:b:c !inner x(y(z)) -1 0 1e9 99999999999999999999 true json %s $1".split(),
    *("'; drop table features; --", "\0", "\xff\xfe", "\\", '"', "\u202e", ""),
    *("(" * 300, "match." + "(a*)*" * 50),
)
HEADERS = (
    *r"""Host: localhost
Host: evil.example
Host:
: x
a b: c
 folded
Accept: text/csv
Accept: */*;q=2
Accept: application/vnd.pgrst.object+json
Accept-Encoding: gzip;q=x,br
Accept-Profile: x
Range: 0-9
Range: 9-0
Range: bytes=0-1
Prefer: count=exact
Prefer: timezone='
Prefer: handling=strict,x=y
If-None-Match: *
If-None-Match: "
Authorization: Bearer x
Content-Length: 5
Content-Length: -1
Content-Length: 5, 6
Content-Length: 99999999999999999999
Transfer-Encoding: chunked
Transfer-Encoding: gzip, chunked
Content-Encoding: gzip
Content-Type: application/json
Content-Type: multipart/form-data; boundary=
Content-Type: application/x-www-form-urlencoded
Connection: Upgrade
Upgrade: websocket
Expect: 100-continue
Expect: x
Origin: null
Sec-Fetch-Site: cross-site
Last-Event-ID: end
X-Forwarded-For: ::1%a
Forwarded: for=""".splitlines(),
    *("Host: a\0b", "X: \x01", "Authorization: \xff", "Cookie: " + "x" * 9000),
)
BODIES = (
    *(b"{}", b'{"full": 1}', b"[" * 5000, b"\0\1\2", b"a=b&a=c", b"{\xff}", b"ZZ\r\n"),
    *(b"5\r\nhello\r\n0\r\n\r\n", b"-1\r\n", b"0\r\nX: y\r\n\r\n", b"x" * 70_000),
)
VERSIONS = ("HTTP/1.0", "HTTP/2.0", "HTTP/9", "", "http/1.1")

STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")

AT_ONCE = 20

#: Seconds without a byte, and of an answer, after which a client of these gives up.
SILENCE, LONGEST = 5, 30


def requests(folder: Path, rng: Random, times: int, report: Report) -> None:
    """So many requests, some at once, and a good one after each handful."""
    with running(folder, rng, report) as (service, data):
        for _ in report.rounds(times // AT_ONCE):
            _batch(service, [hostile_request(rng) for _ in range(AT_ONCE)], report)
        data.renew()
        status, body = service.trigger()  # a hostile one may have begun a run
        report.require(status == 200, "a run succeeds afterwards", status, body)


def _batch(service: Service, batch: list[bytes], report: Report) -> None:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        statuses = list(threads.map(partial(send, service.url), batch))
    for request, status in zip(batch, statuses, strict=True):
        is_good = status not in ("500", "502")
        report.require(is_good, "none gets 500", status, request[:500])
        report.counts[f"answer {status}"] += 1
    report.counts["requests"] += len(batch)
    report.require(service.get("/readyz")[0] == 200, "others are served")


def hostile_request(rng: Random) -> bytes:
    """The bytes of one request, or of several in one connection."""
    target = rng.choice(PATHS)
    if rng.random() < 0.6:
        pairs = [
            f"{rng.choice(NAMES)}={_quoted(rng, rng.choice(VALUES))}"
            for _ in range(rng.choice([1, 1, 2, 3, 200]))
        ]
        target += "?" + "&".join(pairs)
    # Most are hostile in a few ways alone, else the first that is met hides the others.
    method = rng.choice(METHODS if rng.random() < 0.2 else ORDINARY)
    version = rng.choice(VERSIONS) if rng.random() < 0.1 else "HTTP/1.1"
    line = f"{method} {target} {version}"
    headers = ["Host: localhost"] if rng.random() < 0.95 else []
    count = rng.choice([0, 0, 0, 0, 1, 1, 2, 3, 200])
    headers += [rng.choice(HEADERS) for _ in range(count)]
    body = rng.choice(BODIES) if rng.random() < 0.3 else b""
    if body and rng.random() < 0.5:
        headers.append(f"Content-Length: {len(body)}")
    end = rng.choice(["\r\n"] * 30 + ["\n"])
    head = end.join([line, *headers, "Connection: close", "", ""])
    request = head.encode("latin-1", "replace") + body
    match rng.randrange(30):
        case 0:
            return request[: rng.randint(0, len(request))]
        case 1:
            where = rng.randint(0, len(request))
            return request[:where] + rng.randbytes(5) + request[where:]
        case 2:
            return request.replace(b"Connection: close" + end.encode(), b"") * 3
        case 3 if rng.random() < 0.3:
            return rng.randbytes(rng.randint(1, 3000))
    return request


def _quoted(rng: Random, value: str) -> str:
    return quote_from_bytes(value.encode()) if rng.random() < 0.8 else value


def send(url: str, request: bytes) -> str:
    """The worst status that a request got, or how else it ended."""
    place = urlsplit(url)
    received, deadline = b"", time.monotonic() + LONGEST
    with socket.create_connection((place.hostname, place.port), SILENCE) as connection:
        try:
            with suppress(ConnectionError):
                connection.sendall(request)
            while part := connection.recv(1 << 16):
                received += part
                if time.monotonic() > deadline:
                    break
        except TimeoutError:
            return "silence"
        except ConnectionError:
            pass
    found = STATUS.findall(received)
    return max(found).decode() if found else "closed"
