"""sentry-sdk as users set it up, except that nothing leaves the process.

Call `init_sentry()` in a process of its own only: the SDK patches what others run on.
"""

from __future__ import annotations

import os
from typing import Any


DSN = "https://{}@sentry.invalid/1".format("public")
"""A client without a DSN does nothing. No name ends in `.invalid` (RFC 6761)."""


def init_sentry() -> None:
    """Initialise with the defaults, locals included, and a transport that drops everything."""
    import sentry_sdk
    from sentry_sdk.transport import Transport

    # Made by a call: to a type checker without the SDK there is no class to inherit from.
    silent = type("Silent", (Transport,), {"capture_envelope": _drop})
    for name in [name for name in os.environ if name.startswith("SENTRY_")]:
        del os.environ[name]  # each is a default of `init()`
    sentry_sdk.init(dsn=DSN, transport=silent, include_local_variables=True)


def _drop(transport: object, envelope: object) -> None:
    """Drop the envelope; the event in it is serialised data already."""


def with_sentry(app: Any) -> Any:
    """Return *app* in the SDK's middleware for any ASGI app."""
    from sentry_sdk.integrations.asgi import SentryAsgiMiddleware

    init_sentry()
    return SentryAsgiMiddleware(app)
