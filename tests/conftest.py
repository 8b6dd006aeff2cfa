"""Settings that all tests share."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings


# These modules assert for the tests: a failure in there shows its values too.
pytest.register_assert_rewrite("tests.asgi", "tests.serving")

# No deadline and no complaint about slow data: a busy machine is not a failing test.
# The blob lets a failure on another machine be repeated with `@reproduce_failure`.
_COMMON = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", parent=_COMMON, max_examples=50)
settings.register_profile("ci", parent=_COMMON, max_examples=200)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
