"""Who sent a request, and the URLs by which that client reaches the service.

Behind a proxy both are in headers: ``Forwarded`` (RFC 7239), or ``X-Forwarded-For``,
``-Proto``, ``-Host`` and ``-Prefix``. They count only as far as trusted proxies have
written them, since clients may send them too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import zip_longest

from aiohttp import web
from yarl import URL

Address = IPv4Address | IPv6Address
Networks = tuple[IPv4Network | IPv6Network, ...]

#: The networks of trusted proxies.
TRUSTED: web.AppKey[Networks] = web.AppKey("trusted_proxies", tuple)

#: The client whose address a trusted proxy does not say, or whose headers contradict
#: each other.
UNKNOWN = "unknown"

#: Headers by which a proxy says that it sends the request of another client.
FORWARDED = (
    *("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"),
    *("X-Real-IP", "Via"),
)

#: Characters of a header Link. A query may be longer than clients and proxies take of
#: a header: Node.js 16 KiB of all, nginx 4 or 8.
MAX_LINK = 8000

#: Parameters that say at which row a page begins.
POSITIONS = ("after", "offset")

#: A Host header: a name or an address, and a port.
HOST = re.compile(
    r"(?:(?P<name>[\w.~-]+?)\.?|\[(?P<address>[0-9a-f:.]+)\])(?::[0-9]{1,5})?",
    re.ASCII | re.IGNORECASE,
)

_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+)+")

#: An address with or without a port, as proxies write it.
_NODE = re.compile(r"\[([^\]]*)\](?::\d+)?|([^:]*)(?::\d+)?|(.*)")

#: A pair of a Forwarded header; a hop, which is of pairs; and a line of hops.
_PAIR = r'([\w-]+)=("(?:[^"\\]|\\.)*+"|[^\s",;]*)'
_HOP = rf"[ \t]*(?:{_PAIR}[ \t]*)?(?:;[ \t]*(?:{_PAIR}[ \t]*)?)*+"
_LINE = re.compile(rf"{_HOP}(?:,{_HOP})*+", re.ASCII)


@dataclass(frozen=True)
class Hop:
    """What a proxy wrote: who sent it the request, and by which URL."""

    client: str | None = None
    scheme: str | None = None
    host: str | None = None
    prefix: str = ""


def is_in(address: Address | None, networks: Networks) -> bool:
    """Whether it is an address of one of the networks."""
    return address is not None and any(address in each for each in networks)


def client_address(request: web.BaseRequest) -> str | None:
    """The address of the client, ``unknown`` where a trusted proxy does not say it.

    Without trusted proxies it is the peer's, as it is for a peer that is none.
    """
    trusted = _trusted(request)
    return _outermost(request, trusted).client if trusted else request.remote


def client_network(request: web.BaseRequest) -> str | None:
    """Whose shares a request takes: see ``client_address`` and ``network_of``."""
    return network_of(client_address(request))


def is_local(request: web.Request) -> bool:
    """Whether a client is on this machine, and not behind a proxy."""
    address = ip_of(request.remote or "")
    if address is None or any(name in request.headers for name in FORWARDED):
        return False
    return address.is_loopback and not is_in(address, _trusted(request))


@lru_cache(1024)
def ip_of(text: str) -> Address | None:
    """The address that a text is; one of IPv4 also where it is written as IPv6."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def network_of(client: str | None) -> str | None:
    """What one client alone has: its address, or of IPv6 the /64 in which it is.

    A machine with IPv6 has such a network as a rule, and may send from any address in
    it. A text that is no address stays as it is.
    """
    address = ip_of(client or "")
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), 64), strict=False))
    return str(address) if address else client


def absolute_url(request: web.BaseRequest, path: str) -> str:
    """The URL of a path of this service, as the client of this request reaches it."""
    hop = _outermost(request, _trusted(request))
    return f"{hop.scheme}://{hop.host}{hop.prefix}{path}"


def page_links(request: web.BaseRequest, **following: str) -> dict[str, str]:
    """The header Link of a page (RFC 8288): the next page and the first.

    ``following`` are the parameters with which the next page begins, none on the last
    one. Empty where there is no other page. A URL for which there is no room is left
    out: a client that cannot read it could read nothing of the answer.
    """
    given = request.rel_url
    first = [each for each in given.query.items() if each[0] not in POSITIONS]
    links: dict[str, URL] = {}
    if following:
        links["next"] = given.update_query(following)
    if following or len(first) < len(given.query):
        links["first"] = given.with_query(first)
    found: list[str] = []
    service = absolute_url(request, "")
    for relation, url in links.items():
        link = f'<{service}{url.raw_path_qs}>; rel="{relation}"'
        if len(", ".join([*found, link])) <= MAX_LINK:
            found.append(link)
    return {"Link": ", ".join(found)} if found else {}


def _trusted(request: web.BaseRequest) -> Networks:
    """The trusted proxies; none for a request without headers, to which they do not
    matter. (One that aiohttp cannot parse has no application either.)
    """
    if isinstance(request, web.Request) and request.headers:
        return request.app.get(TRUSTED, ())
    return ()


def _outermost(request: web.BaseRequest, trusted: Networks) -> Hop:
    """What the proxy wrote to which the client sent the request; of a request without
    one, what the service itself sees.
    """
    own = Hop(request.remote, request.scheme, _own_host(request))
    if not is_in(ip_of(request.remote or ""), trusted):
        return own
    found = [
        _walk(own, hops, trusted)
        for hops in ([*_forwarded(request)], [*_x_forwarded(request)])
        if hops
    ]
    if len({hop.client for hop in found}) > 1:
        # A proxy writes one of the two, and may hand the other on as a client sent it.
        return Hop(UNKNOWN, own.scheme, own.host)
    hop = found[0] if found else own
    for prefix in _values(request, "X-Forwarded-Prefix")[-1:]:
        if _PREFIX.fullmatch(prefix.rstrip("/")):
            return replace(hop, prefix=prefix.rstrip("/"))
    return hop


def _walk(own: Hop, hops: Iterable[Hop], trusted: Networks) -> Hop:
    """The last of the hops that trusted proxies have written, the nearest first."""
    found = own
    for hop in hops:
        client, scheme, host = hop.client or "", hop.scheme or "", hop.host or ""
        found = Hop(
            client or found.client,
            scheme.lower() if scheme.lower() in ("http", "https") else found.scheme,
            host if HOST.fullmatch(host) else found.host,
        )
        if not is_in(ip_of(client), trusted):
            break
    return found


def _x_forwarded(request: web.BaseRequest) -> Iterator[Hop]:
    """The hops of X-Forwarded-*, the nearest first."""
    names = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host")
    columns = (reversed(_values(request, name)) for name in names)
    for client, scheme, host in zip_longest(*columns):
        yield Hop(_address(client) if client else None, scheme, host)


def _values(request: web.BaseRequest, name: str) -> list[str]:
    lines = ",".join(request.headers.getall(name, []))
    return [value.strip() for value in lines.split(",") if value.strip()]


def _forwarded(request: web.BaseRequest) -> Iterator[Hop]:
    """The hops of Forwarded, the nearest first."""
    for line in reversed(request.headers.getall("Forwarded", [])):
        if not _LINE.fullmatch(line):
            # Where a hop ends in it is unknown, so none of its line counts.
            yield Hop(UNKNOWN)
            continue
        for hop in reversed(re.findall(r'(?:"(?:[^"\\]|\\.)*+"|[^",])+', line)):
            pairs = {
                name.lower(): re.sub(r'^"|\\(.)|"$', r"\1", value)
                for name, value in re.findall(_PAIR, hop, re.ASCII)
            }
            if pairs:
                client = _address(pairs.get("for", ""))
                yield Hop(client, pairs.get("proto"), pairs.get("host"))


def _address(node: str) -> str:
    """The address in it, which may have a port; ``unknown`` where there is none."""
    found = _NODE.fullmatch(node)
    text = next(filter(None, found.groups()), "") if found else ""
    return str(ip_of(text) or UNKNOWN)


def _own_host(request: web.BaseRequest) -> str:
    """The host that the request names; the address it came to if it names none."""
    host = request.headers.get("Host", "")
    if HOST.fullmatch(host) or request.transport is None:
        return host
    address, port = request.transport.get_extra_info("sockname")[:2]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
