"""Who is asking: the peer, or the client that the proxies in front of us vouch for.

Every proxy appends to a forwarding header the address that it saw, so only the right end of
the header was written by machines that we know. It is read from there, hop by hop; the first
hop that is not trusted is the client, and what stands left of it is anybody's invention and
is not even parsed. In doubt the answer is the peer, whose address cannot be invented.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, TypeAlias

from starlette.requests import HTTPConnection


Network: TypeAlias = IPv4Network | IPv6Network

UNIX: Final = "unix"
"""The name of a peer that has no address: a missing client or a unix socket."""

MAX_HOPS: Final = 32
"""Chains of proxies have two to five hops; past this the header is an attack or a loop."""
MAX_HEADER_BYTES: Final = 8192
"""One field as nginx (`large_client_header_buffers 4 8k`) and Apache bound it; from the right."""
MAX_HOST_LENGTH: Final = 128
"""The longest address has 45 characters, and its zone is the name of a network interface."""
MAX_CACHED_HOSTS: Final = 1024
"""About 300 KB for one `Networks` at worst; a host that fell out costs microseconds."""
MAX_CACHED_PROXIES: Final = 32
"""An application has one set of proxies, or a few."""

_LIST_HEADERS: Final = ("x-forwarded-for", "forwarded")
_TCHARS: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, section 5.6.2
_HEADER_NAME: Final = re.compile(_TCHARS)
_PEER_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")

# RFC 7239, section 6: an address, IPv6 in brackets, and a port that may be obfuscated.
_HOP: Final = re.compile(r"(?:\[([^][]*:[^][]*)\]|([0-9.]+))(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?")
_PAIR: Final = re.compile(
    rf'[ \t]*(?:({_TCHARS})=(?:"((?:[^"\\]|\\.)*)"|([^";,\s]*))[ \t]*)?(?:;|\Z)'
)
_ESCAPED: Final = re.compile(r"\\(.)")


class Networks:
    """Hold IP networks and the literal names of peers, and say which one a host belongs to.

    Each of *specs* is an address (`"10.0.0.1"`), a network (`"10.0.0.0/8"`, `"fd00::/8"`) or
    the plain name of a peer that has no address: `"unix"` (a unix socket, a missing client) or
    what an in-process client calls itself, such as `"testclient"`. IPv4-mapped IPv6 addresses
    and networks count as IPv4; `"::/0"` is IPv6 only.

    Raises:
        TypeError: a spec is not a str.
        ValueError: a spec is neither of the three, or a network has host bits set.
    """

    __slots__ = ("_lookup", "_members")

    def __init__(self, *specs: str) -> None:
        self._members = tuple(dict.fromkeys(_member(spec) for spec in specs))
        names = frozenset(member for member in self._members if isinstance(member, str))
        networks = [member for member in self._members if not isinstance(member, str)]
        # The most specific first: `match` then does not depend on the order of the specs.
        networks.sort(key=lambda network: network.prefixlen, reverse=True)
        find = partial(_find, names, tuple(networks))
        self._lookup = lru_cache(maxsize=MAX_CACHED_HOSTS)(find)

    def matches(self, host: str | None) -> bool:
        """Return whether *host* is in one of the networks, or is one of the names."""
        return self.match(host) is not None

    def match(self, host: str | None) -> Network | str | None:
        """Return the most specific network that holds *host*, or the name that it is.

        None, the empty host and the path of a unix socket are the peer named `"unix"`.
        """
        return self.resolve(host)[1]

    def resolve(self, host: object) -> tuple[str | None, Network | str | None]:
        """Return the canonical address of *host* (None: it has none), and its `match`."""
        if host is None:
            return self._lookup(UNIX)
        if not isinstance(host, str) or len(host) > MAX_HOST_LENGTH:
            return None, None
        return self._lookup(UNIX if _is_unix(host) else host)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Networks):
            return NotImplemented
        return frozenset(self._members) == frozenset(other._members)

    def __hash__(self) -> int:
        return hash(frozenset(self._members))

    def __iter__(self) -> Iterator[str]:
        return map(str, self._members)

    def __repr__(self) -> str:
        return f"Networks({', '.join(map(repr, self))})"


@dataclass(frozen=True, init=False, repr=False, slots=True)
class TrustedProxies:
    """Name the proxies whose forwarding headers are believed, and the header they write.

    *networks* are specs of `Networks`; none given trusts nobody. *header* pins the one header
    that is read: `"x-forwarded-for"`, `"forwarded"`, or any that holds a single address, such
    as `"x-real-ip"`; case does not matter. Without it, see `client_ip`.

    Raises:
        TypeError: a network is not a str.
        ValueError: a network is malformed, or *header* is not the name of a header.
    """

    networks: Networks
    header: str | None

    def __init__(self, *networks: str, header: str | None = None) -> None:
        object.__setattr__(self, "networks", Networks(*networks))
        object.__setattr__(self, "header", None if header is None else _header_name(header))

    @classmethod
    def of(cls, trusted: Iterable[str] | TrustedProxies) -> TrustedProxies:
        """Return *trusted* itself, or the proxies of its networks (the same for the same ones).

        Raises:
            TypeError: *trusted* is a single str, or holds something else than str.
            ValueError: a network is malformed.
        """
        if isinstance(trusted, TrustedProxies):
            return trusted
        if isinstance(trusted, str):
            raise TypeError(
                f"trusted proxies must be several networks, not the one text {trusted!r}: "
                f"write ({trusted!r},)"
            )
        specs = tuple(trusted)
        if all(isinstance(spec, str) for spec in specs):
            return _proxies(specs)
        return cls(*specs)  # Raises, and names the culprit.

    def __repr__(self) -> str:
        arguments = [repr(network) for network in self.networks]
        if self.header is not None:
            arguments.append(f"header={self.header!r}")
        return f"TrustedProxies({', '.join(arguments)})"


def client_ip(
    request_or_scope: HTTPConnection | Mapping[str, Any],
    trusted: Iterable[str] | TrustedProxies = (),
) -> str | None:
    """Return the client's address: the right-most hop that is not one of the *trusted* proxies.

    Takes a Starlette `Request` or `WebSocket`, or an ASGI scope. When every hop is trusted, it
    is the left-most. Headers of a peer that is not trusted are never read. `X-Forwarded-For` is
    read, or `Forwarded` (RFC 7239) when that alone is there, or what `TrustedProxies.header`
    pins; several headers of one name are one list, in their order. The peer's own address is
    the answer when both are there and do not agree, when the hop that decides is no address
    (garbage, `unknown`, `_hidden`), and when it lies past `MAX_HOPS` or `MAX_HEADER_BYTES`.

    The address is canonical text: IPv4-mapped IPv6 is IPv4, zones and ports are dropped. The
    name of a peer such as `"testclient"` is returned as it is. None: the peer has no address.

    Raises:
        TypeError, ValueError: *trusted* is malformed. No scope makes it raise.
    """
    scope = _scope(request_or_scope)
    proxies = TrustedProxies.of(trusted)
    peer, network = _peer(scope, proxies.networks)
    if network is None:
        return peer
    names = _LIST_HEADERS if proxies.header is None else (proxies.header,)
    values = _values(scope, [name.encode("ascii") for name in names])
    claims = {_claim(proxies.networks, *item) for item in zip(names, values, strict=True)} - {None}
    claim = claims.pop() if len(claims) == 1 else None
    return claim or peer


def peer_host(request_or_scope: HTTPConnection | Mapping[str, Any]) -> str | None:
    """Return the canonical address, or the name, of who is connected to us; no header is read."""
    return _peer(_scope(request_or_scope), _proxies(()).networks)[0]


def _member(spec: str) -> Network | str:
    if not isinstance(spec, str):
        raise TypeError(
            f'a network must be a str, not {spec!r}: write it as text, such as "10.0.0.0/8"'
        )
    if _PEER_NAME.fullmatch(spec) and spec.lower() != "localhost":
        return spec
    network: Network | None = None
    with suppress(ValueError):  # A zone would name an interface of this machine.
        network = None if "%" in spec else ip_network(spec, strict=False)
    if network is None:
        raise ValueError(
            f"{spec!r} is no address, no network and no peer's plain name (names of hosts are "
            'not looked up): write one such as "10.0.0.1", "10.0.0.0/8", "::1" or "unix"'
        )
    address = ip_address(spec.partition("/")[0])
    if address != network.network_address:
        raise ValueError(
            f"{spec!r} is an address with a network's prefix, its host bits are set: "
            f'write "{network}" for the network, or "{address}" for the one address'
        )
    return _without_mapping(network)


def _without_mapping(network: Network) -> Network:
    """Return the IPv4 network that *network* maps into IPv6 (RFC 4291, section 2.5.5.2)."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return network if mapped is None else IPv4Network((mapped, network.prefixlen - 96))


def _header_name(header: object) -> str:
    if not isinstance(header, str) or not _HEADER_NAME.fullmatch(header):
        raise ValueError(
            f'header must be the name of a header, not {header!r}: write one such as "x-real-ip"'
        )
    return header.lower()


@lru_cache(maxsize=MAX_CACHED_PROXIES)
def _proxies(specs: tuple[str, ...]) -> TrustedProxies:
    return TrustedProxies(*specs)


def _find(
    names: frozenset[str], networks: tuple[Network, ...], host: str
) -> tuple[str | None, Network | str | None]:
    address = _address(host)
    if address is None:
        return None, host if host in names else None
    return str(address), next((network for network in networks if address in network), None)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    # The zone means something on that machine only, and may be any text: it is dropped.
    return address.ipv4_mapped or IPv6Address(int(address))


def _is_unix(host: str) -> bool:
    """Return whether a server or nginx (`unix:`) wrote *host* for the end of a unix socket."""
    return not host or host[0] == "/" or host.startswith("unix:")


def _scope(request_or_scope: object) -> Mapping[str, Any]:
    scope = getattr(request_or_scope, "scope", request_or_scope)
    return scope if isinstance(scope, Mapping) else {}


def _peer(scope: Mapping[str, Any], trusted: Networks) -> tuple[str | None, Network | str | None]:
    """Return the peer's address or name, and the member of *trusted* that it is."""
    client = scope.get("client")
    host = client[0] if isinstance(client, list | tuple) and client else None
    if not isinstance(host, str) or _is_unix(host):
        return None, trusted.match(None)
    address, network = trusted.resolve(host)
    return address or host, network


def _values(scope: Mapping[str, Any], names: Sequence[bytes]) -> list[bytes]:
    """Return each header's values as one list, empty when the scope's headers are malformed."""
    headers = scope.get("headers")
    found: dict[bytes, list[bytes]] = {name: [] for name in names}
    if isinstance(headers, Collection):  # An iterator that we read would be empty for the app.
        try:
            for field, value in headers:
                if (name := field.lower()) in found:
                    found[name].append(value)
            return [b",".join(values) for values in found.values()]
        except Exception:  # A scope is what servers and middleware made of it.
            pass
    return [b""] * len(names)


def _claim(trusted: Networks, name: str, value: bytes) -> str | None:
    """Return the client that a header names: "" when that is not clear, None when it is empty."""
    claim = None
    for hop in _hops(name, value):
        address, network = trusted.resolve(_host(hop))
        claim = address or ""
        if network is None:
            break
    return claim


def _hops(name: str, value: bytes) -> Iterator[str]:
    """Yield the header's hops from right to left; one that is too far to the left is garbage."""
    text = value.decode("latin-1")
    if len(text) > MAX_HEADER_BYTES:
        text = "?" + text[-MAX_HEADER_BYTES:]  # No hop begins so: the cut one is garbage.
    elements = text.rsplit(",", MAX_HOPS) if name in _LIST_HEADERS else [text]
    if len(elements) > MAX_HOPS:
        elements[0] = "?"
    elements.reverse()
    is_rfc7239 = name == _LIST_HEADERS[1]
    for element in _unsplit(elements) if is_rfc7239 else elements:
        if stripped := element.strip(" \t"):  # RFC 9110, section 5.6.1: a list has empty ones.
            yield _forwarded_for(stripped) if is_rfc7239 else stripped


def _unsplit(pieces: Iterable[str]) -> Iterator[str]:
    """Rejoin what was split at a comma inside quotes.

    An element is complete when its quotes are even in number. Read from the right, a quote
    that a client left open cannot reach what the proxies appended.
    """
    element = ""
    for piece in pieces:
        element = f"{piece},{element}" if element else piece
        if _ESCAPED.sub("", element).count('"') % 2 == 0:
            yield element
            element = ""
    if element:
        yield element


def _forwarded_for(element: str) -> str:
    """Return the node of an element's one `for=`; "" when there is none or it is malformed."""
    node, position = None, 0
    while position < len(element):
        pair = _PAIR.match(element, position)
        if pair is None:
            return ""
        position = pair.end()
        if (pair[1] or "").lower() == "for":
            if node is not None:
                return ""
            node = pair[3] if pair[2] is None else _ESCAPED.sub(r"\1", pair[2])
    return node or ""


def _host(hop: str) -> str:
    """Return *hop* without brackets and port; what can be no address becomes the text "?"."""
    if match := _HOP.fullmatch(hop):
        return match[1] or match[2]
    return hop if ":" in hop and hop[0] != "/" else "?"
