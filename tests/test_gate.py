"""The gate of the debug page fails closed."""

from __future__ import annotations

import pytest

from errata.gate import DebugGate
from tests.asgi import http_scope


LOOPBACK = ("127.0.0.0/8", "::1")
LOCAL = ("127.0.0.1", 1)


@pytest.mark.parametrize(
    ("clients", "client", "headers"),
    [
        (LOOPBACK, LOCAL, {"host": "localhost:8000"}),
        (LOOPBACK, LOCAL, {"host": "LocalHost"}),
        (LOOPBACK, LOCAL, {"host": "localhost."}),
        (LOOPBACK, LOCAL, {"host": "shop.localhost:8000"}),
        (LOOPBACK, LOCAL, {"host": "127.0.0.1:8000"}),
        (LOOPBACK, LOCAL, {"host": "127.8.8.8"}),
        (LOOPBACK, ("::1", 1), {"host": "[::1]:8000"}),
        (LOOPBACK, ("::1", 1), {"host": "[::1]"}),
        (LOOPBACK, ("::ffff:127.0.0.1", 1), {"host": "localhost"}),
        (("10.0.0.0/8",), ("10.1.2.3", 1), {"host": "10.0.0.1:8000"}),
        (("10.0.0.0/8",), ("10.1.2.3", 1), {"host": "localhost"}),
        (("testclient",), ("testclient", 1), {"host": "testserver"}),
        (("testclient",), ("testclient", 1), {}),
    ],
)
def test_allowed(clients, client, headers):
    """A named peer that asked for a loopback host sees the page."""
    assert DebugGate(clients).refusal(http_scope(client=client, headers=headers)) is None


@pytest.mark.parametrize(
    ("clients", "client", "headers", "words"),
    [
        (LOOPBACK, ("203.0.113.9", 1), {"host": "localhost"}, "203.0.113.9"),
        (LOOPBACK, ("testclient", 1), {"host": "localhost"}, "testclient"),
        (LOOPBACK, None, {"host": "localhost"}, "None"),
        ((), LOCAL, {"host": "localhost"}, "127.0.0.1"),
        (LOOPBACK, LOCAL, {}, "Host"),
        (LOOPBACK, LOCAL, {"host": ""}, "Host"),
        (LOOPBACK, LOCAL, {"host": "evil.example"}, "evil.example"),
        (LOOPBACK, LOCAL, {"host": "localhost.evil.example"}, "evil.example"),
        (LOOPBACK, LOCAL, {"host": "127.0.0.1.evil.example"}, "evil.example"),
        (LOOPBACK, LOCAL, {"host": "notlocalhost"}, "notlocalhost"),
        (LOOPBACK, LOCAL, {"host": "192.168.1.5"}, "192.168.1.5"),
        (LOOPBACK, LOCAL, [("host", "localhost"), ("host", "evil.example")], "Host"),
        (LOOPBACK, LOCAL, {"host": "localhost", "x-forwarded-for": "1.2.3.4"}, "proxy"),
        (LOOPBACK, LOCAL, {"host": "localhost", "x-forwarded-proto": "https"}, "proxy"),
        (LOOPBACK, LOCAL, {"host": "localhost", "forwarded": "for=1.2.3.4"}, "proxy"),
        (LOOPBACK, LOCAL, {"host": "localhost", "x-real-ip": "1.2.3.4"}, "proxy"),
        (("10.0.0.0/8",), ("10.1.2.3", 1), {"host": "rebound.example"}, "rebound.example"),
        (("testclient",), ("testclient", 1), {"x-forwarded-for": "1.2.3.4"}, "proxy"),
    ],
)
def test_refused(clients, client, headers, words):
    """Anyone else gets a reason for the log."""
    refusal = DebugGate(clients).refusal(http_scope(client=client, headers=headers))
    assert refusal is not None
    assert words in refusal
