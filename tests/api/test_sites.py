"""What pages of other sites may not do, and under which names the service answers."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request
from psycopg import AsyncConnection

from etl.http.addresses import is_local
from tests.support.client import Client, StartService, get, trigger

pytestmark = pytest.mark.any_postgres

#: All that changes something, by a method and a path.
ACTS = [
    ("GET", "/trigger_etl"),
    ("POST", "/trigger_etl"),
    ("POST", "/runs/1/cancel"),
    ("PUT", "/files/users.csv"),
    ("DELETE", "/files/users.csv"),
]

READS = ["/", "/features", "/features/1", "/runs", "/files", "/files/users.csv"]

OTHER = "https://evil.example"
KNOWN = "https://app.example.com"

#: Headers that a browser sends for a page of another site.
FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "anything"},
    {"Sec-Fetch-Site": ""},
    {"Sec-Fetch-Site": "cross-site", "Origin": OTHER},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
    {"Origin": OTHER},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://localhost"},
    {"Origin": "http://[::1"},
    {"Origin": "\u00e9"},
]


async def status_of(
    client: Client, method: str, path: str, headers: dict[str, str]
) -> int:
    async with client.request(method, path, headers=headers) as response:
        if response.status >= 400:
            assert response.content_type == "application/problem+json"
        await response.read()
        return response.status


async def count_runs(connection: AsyncConnection) -> int:
    row = await (await connection.execute("select count(*) from etl.runs")).fetchone()
    assert row is not None
    return int(row[0])


async def test_a_page_of_another_site_changes_nothing(
    subtests: pytest.Subtests,
    client: Client,
    connection: AsyncConnection,
    data_dir: Path,
) -> None:
    before = (data_dir / "users.csv").read_bytes()
    for headers in FOREIGN:
        with subtests.test(headers=headers):
            for method, path in ACTS:
                assert await status_of(client, method, path, headers) == 403, (
                    method,
                    path,
                )
            assert await count_runs(connection) == 0
            assert (data_dir / "users.csv").read_bytes() == before
            for path in READS[:4:3]:  # which it may not read the answers of
                assert await status_of(client, "GET", path, headers) == 200


async def test_the_reason_is_given(client: Client) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": OTHER}
    async with client.post("/trigger_etl", headers=headers) as response:
        answer = await response.json(content_type=None)
    assert OTHER in answer["detail"]
    assert "CORS_ORIGINS" in answer["detail"]
    assert answer["message"] == "no ETL process was started"
    assert answer["run"] is None


async def test_the_page_itself_a_user_and_a_program_may(client: Client) -> None:
    here = f"http://{client.host}:{client.port}"
    for headers in (
        {},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": here},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://proxy.example"},
        {"Origin": here},
        {"Origin": "https://localhost", "Host": "localhost"},
        {"Origin": "http://[::1]:5000", "Host": "[::1]:5000"},
    ):
        assert await status_of(client, "GET", "/trigger_etl", headers) == 200, headers
        assert await status_of(client, "POST", "/runs/1/cancel", headers) == 409


async def test_the_page_may_behind_a_proxy_that_is_trusted(
    start_service: StartService,
) -> None:
    """Where the browser sends no Sec-Fetch-Site, as without encryption."""
    headers = {"Origin": KNOWN, "X-Forwarded-Host": "app.example.com"}
    for settings, expected in (
        ({}, 403),
        ({"trusted_proxies": (ip_network("127.0.0.0/8"),)}, 200),
        ({"trusted_proxies": (ip_network("10.0.0.0/8"),)}, 403),
    ):
        client = await start_service(**settings)
        sent = {**headers, "X-Forwarded-For": "192.0.2.1"}
        assert await status_of(client, "POST", "/trigger_etl", sent) == expected
        sent = {**sent, "Origin": OTHER}
        assert await status_of(client, "POST", "/trigger_etl", sent) == 403


async def test_origins_that_are_named_may(start_service: StartService) -> None:
    client = await start_service(cors_origins=frozenset({KNOWN}))
    allowed = {"Sec-Fetch-Site": "cross-site", "Origin": KNOWN}
    assert await status_of(client, "POST", "/trigger_etl", allowed) == 200
    assert await status_of(client, "POST", "/trigger_etl", {"Origin": KNOWN}) == 200
    for origin in (OTHER, f"{KNOWN}:444", "http://app.example.com", "null"):
        headers = {**allowed, "Origin": origin}
        assert await status_of(client, "POST", "/trigger_etl", headers) == 403
    headers = {"Sec-Fetch-Site": "cross-site"}  # an image of that page has no origin
    assert await status_of(client, "GET", "/trigger_etl", headers) == 403


async def test_any_origin_may_with_a_token_alone(start_service: StartService) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": OTHER}
    client = await start_service(cors_origins=frozenset({"*"}))
    assert await status_of(client, "POST", "/trigger_etl", headers) == 403
    client = await start_service(cors_origins=frozenset({"*"}), api_token="run")
    assert await status_of(client, "POST", "/trigger_etl", headers) == 401
    headers["Authorization"] = "Bearer run"
    assert await status_of(client, "POST", "/trigger_etl", headers) == 200


LOCAL = [
    "localhost",
    "localhost:5000",
    "LocalHost.",
    "app.localhost:5000",
    "127.0.0.1",
    "127.0.0.1:1",
    "[::1]:5000",
    "192.0.2.1:5000",
    "[2001:db8::1]",
    "",
]


async def test_known_hosts(subtests: pytest.Subtests, client: Client) -> None:
    for host in LOCAL:
        with subtests.test(host=host):
            for path in READS:
                if path != "/features/1":
                    assert await status_of(client, "GET", path, {"Host": host}) == 200


STRANGE = [
    "evil.example",
    "evil.example:5000",
    "evil",
    "localhost.evil.example",
    "evil-localhost",
    "127.0.0.1.evil.example",
    "localhost@evil.example",
    "evil.example@localhost",
    "[::1",
    "localhost:x",
    "a b",
    "\u00e9",
]


async def test_other_hosts_get_nothing(
    subtests: pytest.Subtests, client: Client, connection: AsyncConnection
) -> None:
    """As after DNS rebinding; the page itself is then of the same origin."""
    for host in STRANGE:
        with subtests.test(host=host):
            headers = {
                "Host": host,
                "Sec-Fetch-Site": "same-origin",
                "Origin": "http://x",
            }
            for method, path in [
                *ACTS,
                *(("GET", path) for path in [*READS, "/nothing"]),
            ]:
                assert await status_of(client, method, path, headers) in (400, 421), (
                    path
                )
            assert await count_runs(connection) == 0
            for path in ("/healthz", "/readyz"):
                assert await status_of(client, "GET", path, {"Host": host}) in (
                    200,
                    400,
                )


async def test_hosts_that_are_named(start_service: StartService) -> None:
    named = frozenset({"etl", "etl.example.com"})
    for tokens in ({}, {"api_token": "run"}):
        client = await start_service(allowed_hosts=named, **tokens)
        for host, expected in (
            ("etl", 200),
            ("etl:5000", 200),
            ("ETL.example.com.", 200),
            ("localhost", 200),
            ("other.example.com", 421),
            ("example.com", 421),
        ):
            status = await status_of(client, "GET", "/runs", {"Host": host})
            assert status == expected, host


async def test_any_host(start_service: StartService) -> None:
    """Where it is asked for, or where a token keeps pages out."""
    for settings in ({"allowed_hosts": frozenset({"*"})}, {"api_token": "run"}):
        client = await start_service(**settings)
        assert await status_of(client, "GET", "/runs", {"Host": "evil.example"}) == 200


async def test_the_reason_names_the_setting(client: Client) -> None:
    async with client.get("/features", headers={"Host": "evil.example"}) as response:
        answer = await response.json(content_type=None)
        assert response.status == 421
    assert "'evil.example'" in answer["detail"]
    assert "ALLOWED_HOSTS" in answer["detail"]
    await trigger(client)
    assert len(await get(client, "/features")) == 10


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        ("127.0.0.1", {}, True),
        ("127.9.9.9", {}, True),
        ("::1", {}, True),
        ("::ffff:127.0.0.1", {}, True),
        ("192.0.2.1", {}, False),
        ("172.17.0.1", {}, False),
        ("::ffff:192.0.2.1", {}, False),
        ("fe80::1%eth0", {}, False),
        ("", {}, False),
        ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}, False),
        ("127.0.0.1", {"Forwarded": "for=127.0.0.1"}, False),
        ("127.0.0.1", {"X-Real-IP": "127.0.0.1"}, False),
        ("127.0.0.1", {"Via": "1.1 proxy"}, False),
    ],
)
def test_clients_on_this_machine(
    peer: str, headers: dict[str, str], expected: bool
) -> None:
    transport = Mock(get_extra_info=lambda name, default=None: (peer, 1))
    request = make_mocked_request("PUT", "/", headers, transport=transport)
    assert is_local(request) is expected


async def test_files_are_for_this_machine_while_no_token_is_set(
    start_service: StartService, data_dir: Path
) -> None:
    """A request that comes through a proxy is of another machine."""
    through = {"X-Forwarded-For": "192.0.2.1"}
    read = {"Authorization": "Bearer read"}
    for settings, token, expected in (
        ({}, {}, [403, 403, 403]),
        ({"api_token_read": "read"}, read, [200, 403, 403]),
        ({"api_token": "run"}, {}, [401, 401, 401]),
        ({"api_token": "run"}, {"Authorization": "Bearer run"}, [200, 422, 204]),
    ):
        client = await start_service(**settings)
        headers = {**through, **token}
        found = [
            await status_of(client, method, "/files/users.csv", headers)
            for method in ("GET", "PUT", "DELETE")
        ]
        assert found == expected, settings
    assert not (data_dir / "users.csv").exists()
