"""`python -m benchmarks`: measure, say which promises hold, and write it down if asked to."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.cases import CASES, load
from benchmarks.document import environment, render, render_table
from benchmarks.figures import ratio
from benchmarks.harness import FULL, QUICK
from benchmarks.results import Section


DOCUMENT: Final = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


def main() -> int:
    """Run the cases; return 1 if a promise is broken."""
    options = _parse()
    scale = QUICK if options.quick else FULL
    sections = []
    for name in options.only or CASES:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        section = load(name).run(scale)
        _show(section)
        sections.append(section)
    if options.json:
        options.json.write_text(json.dumps(_data(sections), indent=1), encoding="utf-8")
    if options.write:
        document = render(
            sections, command="scripts/bench --write", scale=scale, versions=environment()
        )
        DOCUMENT.write_text(document, encoding="utf-8")
    return 0 if all(promise.kept for section in sections for promise in section.promises) else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a first look in two minutes")
    parser.add_argument(
        "--only", metavar="NAME", choices=CASES, action="append", help=f"of {', '.join(CASES)}"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every sample there")
    parser.add_argument(
        "--write", action="store_true", help="write docs/benchmarks.md, after a whole run only"
    )
    options = parser.parse_args()
    if options.write and (options.quick or options.only):
        parser.error("--write tells of a whole run: leave out --quick and --only")
    return options


def _show(section: Section) -> None:
    print(f"\n{section.title}\n\n{section.intro.strip()}")
    for table in section.tables:
        print(f"\n{table.title}\n{render_table(table)}")
    print()
    for promise in section.promises:
        measured = ratio(promise.measured)
        print(f"{promise.verdict}  {promise.text}: {measured} (promised {promise.rule})")
    sys.stdout.flush()


def _data(sections: Sequence[Section]) -> dict[str, object]:
    return {
        "environment": environment(),
        "promises": [
            {
                "text": promise.text,
                "measured": promise.measured,
                "limit": promise.limit,
                "kept": promise.kept,
            }
            for section in sections
            for promise in section.promises
        ],
        "samples": {section.name: section.samples for section in sections},
    }


if __name__ == "__main__":
    sys.exit(main())
