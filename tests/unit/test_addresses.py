"""Whose request it is and by which URL it came, with and without trusted proxies."""

from __future__ import annotations

import re
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from etl import parsers
from etl.http.addresses import (
    TRUSTED,
    absolute_url,
    client_address,
    network_of,
    page_links,
)

PROXIES = "127.0.0.1,10.0.0.0/8,2001:db8:1::/48"


def request_of(
    *headers: tuple[str, str],
    peer: str = "127.0.0.1",
    trusted: str = PROXIES,
    path: str = "/runs",
) -> web.Request:
    app = web.Application()
    app[TRUSTED] = parsers.networks(trusted) if trusted else ()
    ends = {"peername": (peer, 4711), "sockname": ("127.0.0.1", 5000)}
    transport = Mock(**{"get_extra_info": lambda name, default=None: ends.get(name)})
    return make_mocked_request(
        "GET", path, headers=CIMultiDict(headers), app=app, transport=transport
    )


def seen(request: web.Request) -> tuple[str | None, str]:
    return client_address(request), absolute_url(request, "/runs")


HOST = ("Host", "etl:5000")
OWN = "http://etl:5000/runs"


@pytest.mark.parametrize(
    ("client", "url", "headers"),
    [
        ("127.0.0.1", OWN, {}),
        ("192.0.2.1", OWN, {"X-Forwarded-For": "192.0.2.1"}),
        ("192.0.2.1", OWN, {"X-Forwarded-For": "192.0.2.1:4711"}),
        ("2001:db8::1", OWN, {"X-Forwarded-For": "2001:db8::1"}),
        ("2001:db8::1", OWN, {"X-Forwarded-For": "[2001:db8::1]:4711"}),
        ("192.0.2.1", OWN, {"X-Forwarded-For": "::ffff:192.0.2.1"}),
        # the client's own words are on the left of what the proxy has written
        ("192.0.2.1", OWN, {"X-Forwarded-For": "127.0.0.1, 192.0.2.1"}),
        ("192.0.2.1", OWN, {"X-Forwarded-For": "x, 192.0.2.1, 10.1.2.3"}),
        ("192.0.2.1", OWN, {"X-Forwarded-For": "192.0.2.1,10.1.2.3,127.0.0.1"}),
        ("10.1.2.3", OWN, {"X-Forwarded-For": "10.1.2.3"}),
        ("unknown", OWN, {"X-Forwarded-For": "x"}),
        ("unknown", OWN, {"X-Forwarded-For": "127.0.0.1, localhost"}),
        ("127.0.0.1", OWN, {"X-Forwarded-For": " , "}),
        ("127.0.0.1", "https://etl:5000/runs", {"X-Forwarded-Proto": "https"}),
        ("127.0.0.1", "https://etl:5000/runs", {"X-Forwarded-Proto": "HTTPS"}),
        ("127.0.0.1", OWN, {"X-Forwarded-Proto": "javascript"}),
        ("127.0.0.1", "http://a.example/runs", {"X-Forwarded-Host": "a.example"}),
        ("127.0.0.1", "http://[::2]:81/runs", {"X-Forwarded-Host": "[::2]:81"}),
        ("127.0.0.1", OWN, {"X-Forwarded-Host": 'a">; rel="next'}),
        ("127.0.0.1", OWN, {"X-Forwarded-Host": "a/b"}),
        ("127.0.0.1", "http://etl:5000/a/b/runs", {"X-Forwarded-Prefix": "/a/b/"}),
        ("127.0.0.1", OWN, {"X-Forwarded-Prefix": "/"}),
        ("127.0.0.1", OWN, {"X-Forwarded-Prefix": "//evil.example"}),
        ("127.0.0.1", OWN, {"X-Forwarded-Prefix": "/a>"}),
        ("127.0.0.1", OWN, {"X-Forwarded-Prefix": "/a/.."}),
        ("127.0.0.1", OWN, {"X-Forwarded-Prefix": "/./a"}),
        (
            "192.0.2.1",
            "https://a.example/api/runs",
            {
                "X-Forwarded-For": "evil, 192.0.2.1",
                "X-Forwarded-Proto": "evil, https",
                "X-Forwarded-Host": "evil.example, a.example",
                "X-Forwarded-Prefix": "/evil, /api",
            },
        ),
        (  # two proxies, each of which has added what it was asked for
            "192.0.2.1",
            "https://a.example/runs",
            {
                "X-Forwarded-For": "192.0.2.1, 10.1.1.1",
                "X-Forwarded-Proto": "https, http",
                "X-Forwarded-Host": "a.example, inner",
            },
        ),
        (  # the inner one has handed on what the outer one wrote
            "192.0.2.1",
            "https://a.example/runs",
            {
                "X-Forwarded-For": "192.0.2.1, 10.1.1.1",
                "X-Forwarded-Proto": "https",
                "X-Forwarded-Host": "a.example",
            },
        ),
        ("192.0.2.1", OWN, {"Forwarded": "for=192.0.2.1"}),
        ("192.0.2.1", OWN, {"Forwarded": 'For="192.0.2.1:80"'}),
        ("2001:db8::1", OWN, {"Forwarded": 'for="[2001:db8::1]:4711"'}),
        ("unknown", OWN, {"Forwarded": "for=unknown"}),
        ("unknown", OWN, {"Forwarded": 'for="_hidden"'}),
        ("unknown", OWN, {"Forwarded": "by=10.0.0.1"}),
        ("127.0.0.1", OWN, {"Forwarded": ""}),
        ("127.0.0.1", OWN, {"Forwarded": ", ;"}),
        (
            "192.0.2.1",
            "https://a.example:8443/runs",
            {"Forwarded": ' for=192.0.2.1 ; proto=https ;host="a.example:8443";by=_x'},
        ),
        (
            "192.0.2.1",
            "https://a.example/runs",
            {
                "Forwarded": "for=127.0.0.1;host=evil.example,"
                " for=192.0.2.1;proto=https;host=a.example, for=10.0.0.1;proto=http"
            },
        ),
        # a quote that a client has left open hides nothing: no part of the line counts
        ("unknown", OWN, {"Forwarded": 'for=", for=192.0.2.1'}),
        ("unknown", OWN, {"Forwarded": "for=127.0.0.1 for=192.0.2.1"}),
        # one of both is not the proxy's
        (
            "unknown",
            OWN,
            {"Forwarded": "for=127.0.0.1;host=x", "X-Forwarded-For": "192.0.2.1"},
        ),
        (
            "192.0.2.1",
            "https://etl:5000/runs",
            {
                "Forwarded": "for=192.0.2.1;proto=https",
                "X-Forwarded-For": "192.0.2.1",
            },
        ),
    ],
)
def test_what_a_trusted_proxy_says(
    client: str, url: str, headers: dict[str, str]
) -> None:
    assert seen(request_of(HOST, *headers.items())) == (client, url)


EVERYTHING = [
    ("X-Forwarded-For", "192.0.2.1"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Prefix", "/evil"),
    ("Forwarded", "for=192.0.2.1;proto=https;host=evil.example"),
]


@pytest.mark.parametrize("peer", ["192.0.2.9", "11.0.0.1", "::1", "2001:db8:2::1"])
@pytest.mark.parametrize("trusted", ["", PROXIES])
def test_what_others_say_does_not_count(peer: str, trusted: str) -> None:
    request = request_of(HOST, *EVERYTHING, peer=peer, trusted=trusted)
    assert seen(request) == (peer, OWN)


@pytest.mark.parametrize("peer", ["::ffff:10.9.9.9", "2001:db8:1:2::3"])
def test_proxies_by_ipv6(peer: str) -> None:
    assert seen(request_of(HOST, *EVERYTHING[:2], peer=peer))[0] == "192.0.2.1"


def test_several_lines_of_a_header_are_one_list() -> None:
    for name, one, other in (
        ("X-Forwarded-For", "192.0.2.1", "10.0.0.1"),
        ("Forwarded", "for=192.0.2.1", "for=10.0.0.1"),
    ):
        assert seen(request_of((name, one), (name, other)))[0] == "192.0.2.1"
    lines = [("Forwarded", 'for="'), ("Forwarded", "for=192.0.2.1")]
    assert seen(request_of(*lines))[0] == "192.0.2.1"


@pytest.mark.parametrize("host", [None, "", 'a">', "a b", "a/b", "a@b", "a:b"])
def test_a_host_that_is_none(host: str | None) -> None:
    headers = [] if host is None else [("Host", host)]
    assert seen(request_of(*headers))[1] == "http://127.0.0.1:5000/runs"


def test_links_of_a_page() -> None:
    request = request_of(
        HOST, path="/runs?limit=2&name=eq.a&name=eq.%3E%22>%20b&after=7"
    )
    kept = "http://etl:5000/runs?limit=2&name=eq.a&name=eq.%3E%22%3E+b"
    assert page_links(request, after="5") == {
        "Link": f'<{kept}&after=5>; rel="next", <{kept}>; rel="first"'
    }
    assert page_links(request) == {"Link": f'<{kept}>; rel="first"'}
    alone = request_of(HOST, path="/runs?limit=2")
    assert page_links(alone) == {}
    assert page_links(alone, offset="2") == {
        "Link": '<http://etl:5000/runs?limit=2&offset=2>; rel="next",'
        ' <http://etl:5000/runs?limit=2>; rel="first"'
    }


def test_links_that_would_be_too_long_are_left_out() -> None:
    for size, relations in ((3000, ["next", "first"]), (6000, ["next"]), (9000, [])):
        request = request_of(HOST, path=f"/runs?limit=2&name=in.({'1,' * (size // 2)})")
        link = page_links(request, after="5").get("Link", "")
        assert re.findall(r'rel="(\w+)"', link) == relations


PIECES = st.sampled_from(
    [*',;="\\ []:_%\t', "for", "for=", "proto=https", "host=", "127.0.0.1", "::1", "é"]
)


@given(st.lists(PIECES, max_size=20).map("".join), st.lists(PIECES).map("".join))
def test_whatever_a_client_sends_its_address_is_the_proxys_word(
    forwarded: str, others: str
) -> None:
    """A proxy that adds an address at the end of what it got."""
    for name, given_, added in (
        ("Forwarded", forwarded, "for=192.0.2.1"),
        ("X-Forwarded-For", others, "192.0.2.1"),
    ):
        request = request_of((name, f"{given_}, {added}"))
        assert client_address(request) in ("192.0.2.1", "unknown")
        assert absolute_url(request, "/").isprintable()


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::3", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::3", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
        (None, None),
    ],
)
def test_the_network_of_a_client(client: str | None, network: str | None) -> None:
    assert network_of(client) == network
