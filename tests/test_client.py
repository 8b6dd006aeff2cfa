"""Who is asking: networks and names, trusted proxies, and the client behind them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Any
from weakref import WeakSet, ref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection, Request
from starlette.websockets import WebSocket

from errata.client import (
    MAX_CACHED_HOSTS,
    MAX_HEADER_BYTES,
    MAX_HOPS,
    MAX_HOST_LENGTH,
    Networks,
    TrustedProxies,
    client_ip,
    peer_host,
)


PROXY = "10.0.0.1"
PROXIES = ("10.0.0.0/8", "fd00::/8", "testclient")
XFF = "X-Forwarded-For"
FWD = "Forwarded"


def scope_of(peer: Any, *headers: tuple[str, str | bytes], kind: str = "http") -> dict[str, Any]:
    """Return a scope whose peer has this host, with these headers."""
    pairs = [
        (name.lower().encode(), value if isinstance(value, bytes) else value.encode("latin-1"))
        for name, value in headers
    ]
    client = None if peer is None else (peer, 50_000)
    return {"type": kind, "client": client, "headers": pairs, "method": "GET", "path": "/"}


# ── networks ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("spec", "host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.0/8", "127.255.0.9", True),
        ("10.0.0.0/255.0.0.0", "10.9.9.9", True),
        ("0.0.0.0/0", "203.0.113.9", True),
        ("0.0.0.0/0", "::1", False),
        ("::/0", "203.0.113.9", False),
        ("::/0", "2001:db8::1", True),
        ("::1", "::1", True),
        ("::1", "0:0:0:0:0:0:0:1", True),
        ("2001:db8::/32", "2001:DB8:0::5", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:0:0/96", "203.0.113.9", True),
        ("::/95", "203.0.113.9", False),
        ("testclient", "testclient", True),
        ("testclient", "TestClient", False),
        ("testclient", None, False),
        ("unix", None, True),
        ("unix", "", True),
        ("unix", "unix", True),
        ("unix", "unix:", True),
        ("unix", "unix:/run/app.sock", True),
        ("unix", "/run/app.sock", True),
        ("unix", "unix.example", False),
        ("127.0.0.0/8", None, False),
        ("127.0.0.0/8", "", False),
        ("127.0.0.0/8", "127.0.0.1 ", False),
        ("127.0.0.0/8", "127.0.0.1:80", False),
        ("127.0.0.0/8", "127.1", False),
        ("127.0.0.0/8", "0127.0.0.1", False),
        ("127.0.0.0/8", "x" * (MAX_HOST_LENGTH + 1), False),
    ],
)
def test_a_host_is_matched(spec: str, host: str | None, expected: bool) -> None:
    """A host is in a network, or it is a peer of that name; spelling does not matter."""
    assert Networks(spec).matches(host) is expected


def test_the_match_tells_what_kind_it_is() -> None:
    """A name matches as a str, an address as its most specific network, in any order."""
    for specs in [("0.0.0.0/0", "127.0.0.0/8", "unix"), ("unix", "127.0.0.0/8", "0.0.0.0/0")]:
        networks = Networks(*specs)
        assert networks.match(None) == "unix"
        assert networks.match("127.0.0.1") == ip_network("127.0.0.0/8")
        assert networks.match("127.0.0.1").is_loopback  # type: ignore[union-attr]
        assert networks.match("9.9.9.9") == ip_network("0.0.0.0/0")
        assert networks.match("::1") is None


@pytest.mark.parametrize(
    ("spec", "way_out"),
    [
        ("", "write one such as"),
        ("10.0.0.0/33", "write one such as"),
        ("10.0.0.300", "write one such as"),
        ("::1/129", "write one such as"),
        ("10.0.0.0/8,192.168.0.0/16", "write one such as"),
        (" 10.0.0.1", "write one such as"),
        ("*", "write one such as"),
        ("10.*", "write one such as"),
        ("proxy.example.com", "names of hosts are not looked up"),
        ("localhost", "names of hosts are not looked up"),
        ("LocalHost", "names of hosts are not looked up"),
        ("fe80::1%eth0", "write one such as"),
        ("10.0.0.1/8", 'write "10.0.0.0/8" for the network, or "10.0.0.1" for the one address'),
        ("2001:db8::5/32", 'write "2001:db8::/32" for the network'),
    ],
)
def test_a_malformed_spec_is_refused(spec: str, way_out: str) -> None:
    """Configuration that can match nothing fails at once, and says what to write."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Networks("10.0.0.0/8", spec)
    assert repr(spec) in str(caught.value)
    assert way_out in str(caught.value)


@pytest.mark.parametrize("spec", [None, 10, b"10.0.0.0/8", ["10.0.0.0/8"], ip_network("::/0")])
def test_a_spec_must_be_text(spec: Any) -> None:
    """Bytes, numbers and network objects are named in a TypeError."""
    with pytest.raises(TypeError, match="must be a str, not ") as caught:
        Networks(spec)
    assert repr(spec) in str(caught.value)
    with pytest.raises(TypeError):
        client_ip(scope_of(PROXY), [spec])


@pytest.mark.parametrize("host", [b"127.0.0.1", 2130706433, ("127.0.0.1",), object(), ["::1"]])
def test_a_strange_host_matches_nothing(host: Any) -> None:
    """A host that is no text is nobody, and raises nothing."""
    assert Networks("0.0.0.0/0", "unix").match(host) is None


def test_the_cache_is_bounded() -> None:
    """However many hosts ask, an instance remembers a limited number, and long ones not at all."""

    class Host(str):
        __slots__ = ("__weakref__",)

    networks, alive = Networks("10.0.0.0/8"), WeakSet[Host]()
    for number in range(MAX_CACHED_HOSTS * 2):
        alive.add(host := Host(ip_address(number)))
        assert not networks.matches(host)
    del host
    assert len(alive) == MAX_CACHED_HOSTS
    networks.matches(long := Host("x" * 10_000))
    forgotten = ref(long)
    del long
    assert forgotten() is None


def test_networks_are_values() -> None:
    """Equal members make equal values, however they are written; the repr can be read back."""
    networks = Networks("127.0.0.1", "testclient", "127.0.0.1/32")
    assert networks == Networks("testclient", "::ffff:127.0.0.1")
    assert hash(networks) == hash(Networks("testclient", "127.0.0.1"))
    assert networks != Networks("127.0.0.1")
    assert networks != "127.0.0.1"
    assert repr(networks) == "Networks('127.0.0.1/32', 'testclient')"
    assert eval(repr(networks)) == networks


# ── trusted proxies ─────────────────────────────────────────────────────────────────


def test_trusted_proxies_are_values() -> None:
    """They are frozen, compare by what they say, and show it."""
    proxies = TrustedProxies("10.0.0.0/8", header="X-Real-IP")
    assert proxies == TrustedProxies("10.0.0.0/8", header="x-real-ip")
    assert hash(proxies) == hash(TrustedProxies("10.0.0.0/8", header="x-real-ip"))
    assert proxies != TrustedProxies("10.0.0.0/8")
    assert proxies != TrustedProxies("10.0.0.0/9", header="x-real-ip")
    assert repr(proxies) == "TrustedProxies('10.0.0.0/8', header='x-real-ip')"
    assert repr(TrustedProxies("unix")) == "TrustedProxies('unix')"
    assert copy.deepcopy(proxies) == proxies
    with pytest.raises(AttributeError):
        proxies.header = None  # type: ignore[misc]


@pytest.mark.parametrize("header", ["", "x real ip", "x-real-ip:", "x\r\ny", "ä", 5, b"x-real-ip"])
def test_a_malformed_header_name_is_refused(header: Any) -> None:
    """What is no header's name fails at construction."""
    with pytest.raises(ValueError, match="header must be the name of a header") as caught:
        TrustedProxies("10.0.0.0/8", header=header)
    assert repr(header) in str(caught.value)


def test_trusted_is_several_networks() -> None:
    """One str in the place of several is refused; the same networks are the same object."""
    with pytest.raises(TypeError, match=r"write \('10.0.0.0/8',\)"):
        client_ip(scope_of(PROXY), "10.0.0.0/8")
    proxies = TrustedProxies("10.0.0.0/8")
    assert TrustedProxies.of(proxies) is proxies
    assert TrustedProxies.of(["10.0.0.0/8"]) is TrustedProxies.of(iter(("10.0.0.0/8",)))
    assert TrustedProxies.of(["10.0.0.0/8"]) == proxies


# ── the client ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("fe80::1%eth0", "fe80::1"),
        ("testclient", "testclient"),
        ("unix", "unix"),
        ("unix:/run/app.sock", None),
        ("/run/app.sock", None),
        ("", None),
        (None, None),
        (5, None),
        (b"203.0.113.9", None),
    ],
)
def test_without_proxies_it_is_the_peer(peer: Any, expected: str | None) -> None:
    """Nobody is trusted by default: headers do not count, and the peer is in canonical form."""
    scope = scope_of(peer, (XFF, "1.1.1.1"), (FWD, "for=1.1.1.1"), ("X-Real-IP", "1.1.1.1"))
    assert client_ip(scope) == expected
    assert peer_host(scope) == expected
    assert client_ip(scope, ["192.0.2.0/24"]) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # One hop, two, and the proxies' own.
        ("203.0.113.9", "203.0.113.9"),
        ("1.1.1.1, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("1.1.1.1, 203.0.113.9, 10.0.0.3, 10.0.0.2", "203.0.113.9"),
        ("203.0.113.9,10.0.0.2", "203.0.113.9"),
        ("\t203.0.113.9 ,\t10.0.0.2 ", "203.0.113.9"),
        # All are trusted: the left-most.
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.2", "10.0.0.2"),
        # Nothing there.
        ("", PROXY),
        (" , ,", PROXY),
        # Empty elements do not count.
        (", 203.0.113.9,", "203.0.113.9"),
        ("203.0.113.9,, 10.0.0.2", "203.0.113.9"),
        # Garbage decides only where it stands.
        ("nonsense", PROXY),
        ("203.0.113.9, nonsense", PROXY),
        ("203.0.113.9, nonsense, 10.0.0.2", PROXY),
        ("nonsense, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("unknown", PROXY),
        ("203.0.113.9, unknown", PROXY),
        ("_hidden, 10.0.0.2", PROXY),
        ("203.0.113.999", PROXY),
        ("0203.0.113.9", PROXY),
        ("3405803785", PROXY),
        ("203.0.113.9 198.51.100.7", PROXY),
        ("203.0.113.9;10.0.0.2", PROXY),
        ('"203.0.113.9"', PROXY),
        ("localhost", PROXY),
        ("testclient", PROXY),
        ("<script>", PROXY),
        ("203.0.113.9\x00", PROXY),
        ("٢٠٣.0.113.9".encode(), PROXY),
        (b"\xff\xfe, 10.0.0.2", PROXY),
        (b"\xff\xfe, 203.0.113.9", "203.0.113.9"),
        # Ports.
        ("203.0.113.9:4711", "203.0.113.9"),
        ("203.0.113.9:", PROXY),
        ("203.0.113.9:http", PROXY),
        ("203.0.113.9:123456", PROXY),
        # IPv6.
        ("2001:DB8::0:9", "2001:db8::9"),
        ("[2001:db8::9]", "2001:db8::9"),
        ("[2001:db8::9]:4711", "2001:db8::9"),
        ("2001:db8::9, fd00::1", "2001:db8::9"),
        ("2001:db8::9, [fd00::1]:80", "2001:db8::9"),
        ("[2001:db8::9", PROXY),
        ("2001:db8::9]", PROXY),
        ("[[2001:db8::9]]", PROXY),
        ("[203.0.113.9]", PROXY),
        ("[]", PROXY),
        ("2001:db8:::9", PROXY),
        ("1:2:3:4:5:6:7:8:9", PROXY),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:80", "fe80::1"),
        ("fe80::1%<script>", "fe80::1"),
        ("fe80::1%", PROXY),
        ("fd00::7%eth0, fd00::8", "fd00::7"),
        # IPv4 in IPv6's clothes, as client and as proxy.
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("[::ffff:203.0.113.9]:80", "203.0.113.9"),
        ("::ffff:cb00:7109", "203.0.113.9"),
        ("203.0.113.9, ::ffff:10.0.0.2", "203.0.113.9"),
        # A unix socket that is not trusted.
        ("203.0.113.9, unix:", PROXY),
    ],
)
def test_x_forwarded_for(value: str | bytes, expected: str) -> None:
    """The right-most hop that is no proxy of ours; the peer when that is no address."""
    assert client_ip(scope_of(PROXY, (XFF, value)), PROXIES) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=203.0.113.9", "203.0.113.9"),
        ("For=203.0.113.9", "203.0.113.9"),
        ('FOR="203.0.113.9"', "203.0.113.9"),
        ("for=203.0.113.9;proto=http;by=10.0.0.1", "203.0.113.9"),
        ("proto=http;for=203.0.113.9", "203.0.113.9"),
        ("by=10.0.0.1 ; for=203.0.113.9 ; host=x", "203.0.113.9"),
        ("for=203.0.113.9;", "203.0.113.9"),
        (";;for=203.0.113.9", "203.0.113.9"),
        ("for=1.1.1.1, for=203.0.113.9", "203.0.113.9"),
        ("for=203.0.113.9, for=10.0.0.2", "203.0.113.9"),
        ("for=203.0.113.9,for=10.0.0.3;by=10.0.0.2,,", "203.0.113.9"),
        ("for=10.0.0.3, for=10.0.0.2", "10.0.0.3"),
        ('for="203.0.113.9:4711"', "203.0.113.9"),
        ("for=203.0.113.9:4711", "203.0.113.9"),
        ('for="203.0.113.9:_port"', "203.0.113.9"),
        ('for="[2001:db8:cafe::17]"', "2001:db8:cafe::17"),
        ('for="[2001:DB8:cafe::17]:4711"', "2001:db8:cafe::17"),
        ('for="[2001:db8::9]:_a.b-c"', "2001:db8::9"),
        ("for=[2001:db8::9]", "2001:db8::9"),
        ('for="::ffff:203.0.113.9"', "203.0.113.9"),
        ('for="20\\3.0.113.\\9"', "203.0.113.9"),
        ('for="203.0.113.9";host="a,b;for=1.1.1.1"', "203.0.113.9"),
        ('for=203.0.113.9;host="a\\",\\"b", for=10.0.0.2', "203.0.113.9"),
        ('for=203.0.113.9, for=10.0.0.2;host="a, for=1.1.1.1, b"', "203.0.113.9"),
        ('for=203.0.113.9, for=10.0.0.2;host="a,,b"', "203.0.113.9"),
        ('for=203.0.113.9, for=10.0.0.2;host="\\\\"', "203.0.113.9"),
        # What a client writes cannot swallow what the proxies append.
        ('for="1.1.1.1, for=203.0.113.9', "203.0.113.9"),
        ('for="1.1.1.1\\, for=203.0.113.9, for=10.0.0.2', "203.0.113.9"),
        ('"""", for="203.0.113.9"', "203.0.113.9"),
        # Garbage and identifiers that hide the client.
        ("for=unknown", PROXY),
        ("for=_hidden", PROXY),
        ('for="_SEVKISEK"', PROXY),
        ("for=203.0.113.9, for=_hidden", PROXY),
        ("for=_hidden, for=203.0.113.9", "203.0.113.9"),
        ("proto=http", PROXY),
        ("for=203.0.113.9, by=10.0.0.2", PROXY),
        ("for=", PROXY),
        ('for=""', PROXY),
        ("for", PROXY),
        ("203.0.113.9", PROXY),
        ("for = 203.0.113.9", PROXY),
        ("for=203.0.113.9 proto=http", PROXY),
        ("for=203.0.113.9;for=203.0.113.9", PROXY),
        ('for="203.0.113.9', PROXY),
        ('for="203.0.113.9"x', PROXY),
        ('for="203.0.113.9\\"', PROXY),
        ("for=203.0.113.9;b@d=x", PROXY),
        (b"for=\xff", PROXY),
        ("", PROXY),
        (" ,, ", PROXY),
    ],
)
def test_forwarded(value: str | bytes, expected: str) -> None:
    """RFC 7239 is read when it alone is there: quotes, escapes, ports, obfuscation."""
    assert client_ip(scope_of(PROXY, (FWD, value)), PROXIES) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(XFF, "203.0.113.9"), (FWD, "for=203.0.113.9")], "203.0.113.9"),
        ([(XFF, "::ffff:203.0.113.9"), (FWD, 'for="203.0.113.9:1"')], "203.0.113.9"),
        ([(XFF, "1.1.1.1, 203.0.113.9"), (FWD, "for=203.0.113.9")], "203.0.113.9"),
        ([(XFF, "203.0.113.9"), (FWD, "for=198.51.100.7")], PROXY),
        ([(XFF, "203.0.113.9"), (FWD, "for=unknown")], PROXY),
        ([(XFF, "garbage"), (FWD, "for=203.0.113.9")], PROXY),
        ([(XFF, "203.0.113.9"), (FWD, "")], "203.0.113.9"),
        ([(XFF, " "), (FWD, "for=203.0.113.9")], "203.0.113.9"),
        # Several headers of one name are one list.
        ([(XFF, "1.1.1.1"), (XFF, "203.0.113.9")], "203.0.113.9"),
        ([(XFF, "203.0.113.9"), ("Host", "x"), (XFF, "10.0.0.3, 10.0.0.2")], "203.0.113.9"),
        ([(XFF, "203.0.113.9"), (XFF, "")], "203.0.113.9"),
        ([(FWD, "for=203.0.113.9"), (FWD, "for=10.0.0.2")], "203.0.113.9"),
        ([(FWD, 'for="1.1.1.1'), (FWD, "for=203.0.113.9")], "203.0.113.9"),
        # Headers that nobody pinned do not count.
        ([("X-Real-IP", "203.0.113.9")], PROXY),
        ([("X-Forwarded-Host", "203.0.113.9")], PROXY),
        ([], PROXY),
    ],
)
def test_which_header_is_read(headers: list[tuple[str, str]], expected: str) -> None:
    """Either header alone is believed, and both where they agree."""
    assert client_ip(scope_of(PROXY, *headers), PROXIES) == expected


@pytest.mark.parametrize(
    ("header", "headers", "expected"),
    [
        ("x-forwarded-for", [(XFF, "203.0.113.9"), (FWD, "for=1.1.1.1")], "203.0.113.9"),
        ("FORWARDED", [(XFF, "1.1.1.1"), (FWD, "for=203.0.113.9")], "203.0.113.9"),
        ("forwarded", [(XFF, "1.1.1.1")], PROXY),
        ("X-Real-IP", [(XFF, "1.1.1.1"), ("X-Real-IP", "203.0.113.9")], "203.0.113.9"),
        ("x-real-ip", [("X-Real-IP", " [2001:db8::9]:80 ")], "2001:db8::9"),
        ("x-real-ip", [("X-Real-IP", "10.0.0.9")], "10.0.0.9"),
        ("x-real-ip", [("X-Real-IP", "1.1.1.1, 203.0.113.9")], PROXY),
        ("x-real-ip", [("X-Real-IP", "1.1.1.1"), ("X-Real-IP", "203.0.113.9")], PROXY),
        ("x-real-ip", [("X-Real-IP", "garbage")], PROXY),
        ("x-real-ip", [("X-Real-IP", "")], PROXY),
        ("x-real-ip", [(XFF, "1.1.1.1")], PROXY),
        ("cf-connecting-ip", [("CF-Connecting-IP", "203.0.113.9")], "203.0.113.9"),
    ],
)
def test_a_pinned_header(header: str, headers: list[tuple[str, str]], expected: str) -> None:
    """`header=` is the only one that is read; one that is no list holds one address or nothing."""
    proxies = TrustedProxies(*PROXIES, header=header)
    assert client_ip(scope_of(PROXY, *headers), proxies) == expected
    assert client_ip(scope_of("192.0.2.1", *headers), proxies) == "192.0.2.1"


@pytest.mark.parametrize(
    ("peer", "value", "expected"),
    [
        (None, "203.0.113.9", "203.0.113.9"),
        ("", "203.0.113.9", "203.0.113.9"),
        ("unix:", "203.0.113.9", "203.0.113.9"),
        ("/run/app.sock", "203.0.113.9", "203.0.113.9"),
        ("unix", "203.0.113.9", "203.0.113.9"),
        (None, "203.0.113.9, unix:", "203.0.113.9"),
        (None, "203.0.113.9, unix:/run/nginx.sock", "203.0.113.9"),
        (None, "unix:", None),
        (None, "unix", None),
        (None, "garbage", None),
        (None, "203.0.113.9, /run/a:b", None),
        (None, "", None),
        ("unix", "garbage", "unix"),
        ("203.0.113.8", "1.1.1.1", "203.0.113.8"),
    ],
)
def test_a_unix_socket_is_trusted_by_name(
    peer: str | None, value: str, expected: str | None
) -> None:
    """A proxy on a unix socket has no address: `"unix"` names it, as peer and as hop."""
    assert client_ip(scope_of(peer, (XFF, value)), ["unix"]) == expected


def test_a_named_peer_is_trusted_by_name() -> None:
    """An in-process client that is trusted may say for whom it speaks."""
    scope = scope_of("testclient", (XFF, "203.0.113.9"))
    assert client_ip(scope, PROXIES) == "203.0.113.9"
    assert client_ip(scope, ["unix"]) == "testclient"


@pytest.mark.parametrize(
    ("header", "hop"), [(XFF, "{}"), (FWD, "for={}"), (FWD, 'for="{}";host="a,b"')]
)
def test_hops_are_bounded_from_the_right(header: str, hop: str) -> None:
    """A chain is followed for `MAX_HOPS`, and what lies further left cannot be reached."""
    client, proxy = hop.format("203.0.113.9"), hop.format("10.0.0.2")
    hops = MAX_HOPS if '"' not in hop else MAX_HOPS // 2
    near = ",".join([client, *[proxy] * (hops - 1)])
    far = ",".join([client, *[proxy] * hops])
    for prepended in ("", "1.1.1.1,", "for=1.1.1.1," * 1000):
        assert client_ip(scope_of(PROXY, (header, prepended + near)), PROXIES) == "203.0.113.9"
        assert client_ip(scope_of(PROXY, (header, prepended + far)), PROXIES) == PROXY


@pytest.mark.parametrize(("header", "hop"), [(XFF, "{}"), (FWD, "for={}"), (FWD, 'for="{}"')])
def test_bytes_are_bounded_from_the_right(header: str, hop: str) -> None:
    """Megabytes at the left do not matter; a hop that lies past the limit is the peer."""
    client, proxy = hop.format("203.0.113.9"), hop.format("10.0.0.2")
    junk = 'x",\\' * 500_000
    assert client_ip(scope_of(PROXY, (header, f"{junk}, {client}, {proxy}")), PROXIES) == (
        "203.0.113.9"
    )
    far = f"{client},{' ' * MAX_HEADER_BYTES}{proxy}"
    assert client_ip(scope_of(PROXY, (header, far)), PROXIES) == PROXY
    cut = f"{client}, {proxy}{' ' * (MAX_HEADER_BYTES - len(proxy) - 6)}"
    assert client_ip(scope_of(PROXY, (header, cut)), PROXIES) == PROXY


def test_requests_and_scopes_of_every_kind() -> None:
    """Whatever has a scope is accepted, and so is a mapping that is no dict."""
    headers = [(XFF, "203.0.113.9")]
    http, websocket = scope_of(PROXY, *headers), scope_of(PROXY, *headers, kind="websocket")

    class Scope(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return http[key]

        def __iter__(self) -> Iterator[str]:
            return iter(http)

        def __len__(self) -> int:
            return len(http)

    async def never() -> Any: ...

    askers: list[Any] = [http, websocket, Scope(), Request(http), HTTPConnection(http)]
    askers.append(WebSocket(websocket, never, never))  # type: ignore[arg-type]
    askers.append({**http, "headers": ((b"X-FORWARDED-For", b"203.0.113.9"),)})
    for asker in askers:
        assert client_ip(asker, PROXIES) == "203.0.113.9"
        assert peer_host(asker) == PROXY


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"type": "lifespan"},
        {"client": ()},
        {"client": "203.0.113.9"},
        {"client": 5},
        {"client": [None, 1]},
        {"client": {"host": PROXY}},
        None,
        [],
        "scope",
    ],
)
def test_a_scope_without_a_peer_is_nobody(broken: Any) -> None:
    """A lifespan scope, and what is no scope, has no client and raises nothing."""
    assert client_ip(broken, [*PROXIES, "unix"]) is None
    assert peer_host(broken) is None


@pytest.mark.parametrize(
    "headers",
    [
        None,
        5,
        "x-forwarded-for",
        {"x-forwarded-for": "1.1.1.1"},
        [b"x-forwarded-for"],
        [(b"x-forwarded-for",)],
        [(b"x-forwarded-for", b"1.1.1.1", b"2.2.2.2")],
        [(b"x-forwarded-for", "1.1.1.1")],
        [(b"x-forwarded-for", None)],
        [("x-forwarded-for", "1.1.1.1")],
        [(None, None)],
        [None],
    ],
)
def test_malformed_headers_are_not_read(headers: Any) -> None:
    """Headers that no server sends count as none."""
    assert client_ip({"client": (PROXY, 1), "headers": headers}, PROXIES) == PROXY


def test_an_iterator_of_headers_is_left_to_the_app() -> None:
    """Headers that can be read once only are not ours to read."""
    scope: dict[str, Any] = scope_of(PROXY, (XFF, "203.0.113.9"))
    scope["headers"] = iter(scope["headers"])
    assert client_ip(scope, PROXIES) == PROXY
    assert list(scope["headers"]) == [(b"x-forwarded-for", b"203.0.113.9")]


# ── invariants ──────────────────────────────────────────────────────────────────────

alphabet = st.sampled_from('0123456789abcdef.:,;=" \\[]%_/forFOR\t\x00\xff')
values = st.one_of(
    st.binary(max_size=60),
    st.text(alphabet, max_size=60).map(lambda text: text.encode("latin-1")),
    st.ip_addresses().map(lambda address: str(address).encode()),
    st.ip_addresses().map(lambda address: f'for="[{address}]:1"'.encode()),
)
names = st.sampled_from([b"x-forwarded-for", b"forwarded", b"x-real-ip", b"X-Forwarded-For"])
header_lists = st.lists(st.tuples(names, values), max_size=6)
pins = st.sampled_from([None, "x-forwarded-for", "forwarded", "x-real-ip"])
public = st.ip_addresses(v=4).filter(lambda address: not address.is_private).map(str)


@given(header_lists, pins, st.sampled_from([PROXY, "fd00::1", "testclient", None, "", "unix:x"]))
def test_no_header_makes_it_raise(
    headers: list[tuple[bytes, bytes]], pin: str | None, peer: str | None
) -> None:
    """Whatever the headers hold, the answer is an address in canonical form, or the peer."""
    scope = {**scope_of(peer), "headers": headers}
    answer = client_ip(scope, TrustedProxies(*PROXIES, "unix", header=pin))
    if answer not in {None, "testclient"}:
        assert str(ip_address(str(answer))) == answer
        assert getattr(ip_address(str(answer)), "ipv4_mapped", None) is None
    else:
        assert answer == client_ip(scope)


@given(header_lists, pins, public)
def test_headers_of_a_stranger_change_nothing(
    headers: list[tuple[bytes, bytes]], pin: str | None, peer: str
) -> None:
    """A peer that is not trusted is the client, whatever it sends."""
    proxies = TrustedProxies(*PROXIES, header=pin)
    assert client_ip({**scope_of(peer), "headers": headers}, proxies) == peer


@given(st.lists(values, max_size=5), public, st.integers(0, 4), st.booleans(), st.booleans())
def test_what_is_prepended_changes_nothing(
    prepended: list[bytes], client: str, proxies: int, rfc: bool, joined: bool
) -> None:
    """What an attacker sends ends up left of what the proxies append, and is never believed."""
    hops = [client, *(f"10.0.0.{number}" for number in range(proxies))]
    name = b"forwarded" if rfc else b"x-forwarded-for"
    honest = ", ".join(f'for="{hop}:80"' if rfc else hop for hop in hops).encode()
    lines = [b", ".join([*prepended, honest])] if joined else [*prepended, honest]
    scope = {**scope_of(PROXY), "headers": [(name, line) for line in lines]}
    assert client_ip(scope, PROXIES) == client
