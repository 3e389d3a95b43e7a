"""What cannot be read as a request: it gets a problem that says why, and a count."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from etl.http.protocol import MAX_HEADER_BYTES, MAX_HEADERS, MAX_TARGET_BYTES, METHODS
from tests.support.databases import Postgres, new_database
from tests.support.processes import SECONDS, answer, serving

pytestmark = pytest.mark.any_postgres

HOST = b"Host: localhost\r\n"
LAST = b"Connection: close\r\n"
GOOD = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


@dataclass(frozen=True)
class Service:
    """A server as a process of its own, spoken to in bytes."""

    url: str
    log: Path

    def send(self, *parts: bytes) -> list[Answer]:
        """The answers until the server closes; each part is sent after an answer."""
        address = urlsplit(self.url)
        with socket.create_connection((address.hostname, address.port)) as link:
            link.settimeout(SECONDS)
            answers = []
            with link.makefile("rb") as reader:
                for part in parts[:-1]:
                    link.sendall(part)
                    answers += [read_answer(reader)]
                link.sendall(parts[-1])
                while found := read_answer(reader):
                    answers.append(found)
            return [each for each in answers if each]

    def count(self, status: int) -> float:
        """How many requests without a route got this status."""
        text = answer(f"{self.url}/metrics")[1].decode()
        labels = f'{{method="none",route="none",status="{status}"}}'
        found = re.search(f"^http_requests_total{re.escape(labels)} (.*)$", text, re.M)
        return float(found[1]) if found else 0


def read_answer(reader: Any) -> Answer | None:
    line = reader.readline()
    if not line:
        return None
    headers = {}
    while (header := reader.readline().decode().strip()) != "":
        name, _, value = header.partition(": ")
        headers[name] = value
    body = reader.read(int(headers["Content-Length"]))
    return Answer(int(line.split()[1]), headers, body)


@pytest.fixture(scope="module")
def service(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("protocol") / "log"
    with (
        new_database(postgres) as conninfo,
        serving(log, DATABASE_URL=conninfo) as (_, url),
    ):
        yield Service(url, log)


def line_of(length: int) -> bytes:
    """A request whose target has so many bytes."""
    target = b"/features?limit=1&user_id=in.(".ljust(length - 1, b"1") + b")"
    return b"GET " + target + b" HTTP/1.1\r\n" + HOST


@pytest.mark.parametrize(
    ("status", "detail", "request_"),
    [
        (414, "URL is longer", line_of(MAX_TARGET_BYTES + 1) + b"\r\n"),
        (414, "URL is longer", line_of(1 << 20) + b"\r\n"),
        (414, "URL is longer", line_of(1 << 20)[: -len(HOST) - 2]),
        (431, "header is longer", GOOD[:-2] + b"X: " + b"x" * (MAX_HEADER_BYTES + 1)),
        (431, "header is longer", GOOD[:-2] + b"x" * MAX_HEADER_BYTES + b": 1"),
        (431, "header is longer", GOOD[:-2] + b"X: " + b"x" * (1 << 20)),
        (431, "more than 128 headers", GOOD[:-2] + b"X: 1\r\n" * MAX_HEADERS + b"\r\n"),
        (405, METHODS, b"FIND / HTTP/1.1\r\n" + HOST),
        (405, METHODS, b"get / HTTP/1.1\r\n" + HOST),
        (405, METHODS, b"GETS / HTTP/1.0\r\n\r\n"),
        (405, METHODS, b"x-'-y /features?a=b HTTP/1.1\r\n" + HOST),
        (405, METHODS, b"DESCRIBE / HTTP/1.1\r\n" + HOST),
        (400, "header Host", b"GET / HTTP/1.1\r\n\r\n"),
        (400, "not HTTPS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        (400, "can be read as HTTP", b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n"),
        (400, "can be read as HTTP", b"GET / HTTP/1.1\r\n" + HOST + b"a b: c\r\n\r\n"),
        (400, "can be read as HTTP", b"GET / HTTP/1.1\r\n" + HOST + b"a: \0\r\n\r\n"),
        (400, "can be read as HTTP", b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, "can be read as HTTP", b"GET features HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, "can be read as HTTP", b"GET / HTTP/1.2\r\n" + HOST + b"\r\n"),
        (400, "can be read as HTTP", b"G\xc3\x89T / HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, "can be read as HTTP", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (400, "can be read as HTTP", b"hush hush\r\n\r\n"),
        (400, "can be read as HTTP", b"\0\1\2"),
    ],
)
def test_what_cannot_be_read_is_a_problem(
    service: Service, status: int, detail: str, request_: bytes
) -> None:
    """Counted, and logged as other requests are, without a byte of it."""
    counted = service.count(status)
    (refused,) = service.send(request_)
    assert refused.status == status
    assert refused.headers["Content-Type"].startswith("application/problem+json")
    assert refused.headers["X-Content-Type-Options"] == "nosniff"
    assert refused.headers["Server"] == "features-etl"
    assert refused.headers.get("Allow") == (METHODS if status == 405 else None)
    problem = refused.json()
    assert problem["status"] == status
    assert detail in problem["detail"]
    assert service.count(status) == counted + 1
    *_, line = re.findall(".* UNKNOWN .*", service.log.read_text())
    assert re.search(rf" INFO 127\.0\.0\.1 UNKNOWN / {status} \d+ bytes ", line)


def test_a_line_of_64_kib_works(service: Service) -> None:
    longest = line_of(MAX_TARGET_BYTES)
    (found,) = service.send(longest + LAST + b"\r\n")
    assert found.status == 400  # so long a number is none
    listed = ",".join(map(str, range(10_000)))
    keys = f"/features?limit=9&user_id=in.({listed})"
    (found,) = service.send(f"GET {keys} HTTP/1.0\r\n\r\n".encode())
    assert found.status == 200
    assert all(len(line) < 4096 for line in service.log.read_text().splitlines())


def test_a_connection_that_was_kept_is_closed(service: Service) -> None:
    good, refused = service.send(GOOD, b"FIND / HTTP/1.1\r\n" + HOST + b"\r\n" + GOOD)
    assert (good.status, refused.status) == (200, 405)


def test_pipelined_requests_are_answered_in_their_order(service: Service) -> None:
    many = GOOD * 50 + GOOD[:-2] + LAST + b"\r\n"
    assert [each.status for each in service.send(many)] == [200] * 51
    # also one whose body is full of what ends the headers of a request
    body = b"\r\n\r\n" * 1000
    form = b"Content-Type: application/x-www-form-urlencoded\r\n"
    post = b"POST /trigger_etl HTTP/1.1\r\n" + HOST + form
    post += b"Content-Length: %d\r\n\r\n" % len(body) + body
    found = service.send(GOOD + post + GOOD[:-2] + LAST + b"\r\n")
    assert [each.status for each in found] == [200, 400, 200]


def test_no_body_is_unpacked(service: Service) -> None:
    """Not even one that nobody reads: this one is not what it says that it is."""
    packed = b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain"
    line = b"POST /nowhere HTTP/1.1\r\n"
    answers = service.send(line + HOST + packed + GOOD[:-2] + LAST + b"\r\n")
    assert [each.status for each in answers] == [404, 200]


def test_nothing_that_was_sent_is_repeated(service: Service) -> None:
    """It may be a token with a byte in it that no header may have."""
    secret = b"GET / HTTP/1.1\r\n" + HOST + b"Authorization: Bearer hush\0\r\n\r\n"
    (refused,) = service.send(secret)
    assert b"hush" not in refused.body
    assert "hush" not in service.log.read_text()
