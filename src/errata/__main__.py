"""`python -m errata` is the same as `errata`."""

from __future__ import annotations

import sys

from errata.cli import main


if __name__ == "__main__":
    sys.exit(main())
