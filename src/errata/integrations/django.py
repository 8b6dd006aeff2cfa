"""Django: its signal `got_request_exception`, sent for each exception that becomes a 500.

The signal is the process's, as Django's settings are: there is one site in it. An exception
in a streamed body gets out by itself.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from errata.witness import witness


def connect(app: Any) -> None:
    """Receive the signal; a receiver is kept only once."""
    # By name: Django has no types.
    import_module("django.core.signals").got_request_exception.connect(_got_request_exception)


def _got_request_exception(**_: Any) -> None:
    # The signal does not carry the exception, but is sent where it is handled: in the view's
    # thread, or in one that Django gives a copy of the request's context.
    witness(sys.exception())
