"""Who may see the debug page: it fails closed."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, Final

from errata.client import Networks


_PROXY_HEADERS: Final = (b"forwarded", b"x-real-ip")
_PROXY_PREFIX: Final = b"x-forwarded-"


class DebugGate:
    """Decides from a scope whether its client may see what went wrong.

    The peer must be in *clients*, have come through no proxy, and have asked for a loopback
    host: a page elsewhere whose name was rebound to 127.0.0.1 must not read it (DNS
    rebinding). From a network beyond loopback that *clients* names, an address as host is as
    good: a rebound name is never an address. A literal peer name, such as an in-process test
    client's `"testclient"`, needs no host.
    """

    def __init__(self, clients: Iterable[str]) -> None:
        self._clients = Networks(*clients)

    def refusal(self, scope: Any) -> str | None:
        """Return why the page is withheld from this client, or None if it is not."""
        client = scope.get("client")
        peer = client[0] if client else None
        match = self._clients.match(peer)
        if match is None:
            return f"the peer {peer!r} is not in debug_clients"
        headers = [(bytes(name).lower(), bytes(value)) for name, value in scope["headers"]]
        for name, _ in headers:
            if name in _PROXY_HEADERS or name.startswith(_PROXY_PREFIX):
                return f"the request came through a proxy ({name.decode('latin-1')})"
        if isinstance(match, str):
            return None
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        if len(hosts) == 1 and _is_trusted_host(hosts[0], any_address=not match.is_loopback):
            return None
        return f"the Host {', '.join(hosts)!r:.100} is not a loopback name or address"


def _is_trusted_host(host: str, *, any_address: bool) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return any_address or address.is_loopback
