"""The README and the docs tell the truth: their code runs, their links lead somewhere."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest


ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
MAX_QUICKSTART_LINES = 12

FENCE = re.compile(
    r"^ *(?P<fence>`{3,}|~{3,}) *(?P<language>\w*)[^\n`]*\n(?P<code>.*?)^ *(?P=fence) *$",
    re.DOTALL | re.MULTILINE,
)
NOT_RUN = re.compile(r"<!-- *not run *-->\s*\Z")
INLINE_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r"\]\(<?(?P<target>[^()\s<>]+)>?(?: +\"[^\"]*\")?\)")
DEFINITION = re.compile(r"^ {0,3}\[[^\]]+\]: +<?(?P<target>[^\s<>]+)>?", re.MULTILINE)
HEADING = re.compile(r"^ {0,3}#{1,6} +(?P<title>.+?) *#*$", re.MULTILINE)
ANCHOR = re.compile(r"<\w+ [^>]*\b(?:id|name)=\"(?P<name>[^\"]+)\"")
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)
SCRIPT = re.compile(r"(?<![\w./-])(?:\./)?(scripts/\w+)")


@dataclass(frozen=True)
class Block:
    """One block of Python code on a page."""

    line: int
    """The number of the code's first line."""
    code: str
    runs: bool
    """False where the comment `<!-- not run -->` stands before the block."""


def _blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(
            line=text.count("\n", 0, fence.start("code")) + 1,
            code=textwrap.dedent(fence["code"]),
            runs=NOT_RUN.search(text[: fence.start()]) is None,
        )
        for fence in FENCE.finditer(text)
        if fence["language"] in {"python", "py"}
    ]


def _names(pages: list[Path]) -> list[str]:
    return [page.relative_to(ROOT).as_posix() for page in pages]


WITH_CODE = [page for page in PAGES if any(block.runs for block in _blocks(page))]


@pytest.mark.parametrize("page", WITH_CODE, ids=_names(WITH_CODE))
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    """A reader who pastes a page's blocks one after the other gets no error."""
    # Everything else becomes empty lines, so that a traceback names the page's own line. A
    # process of its own keeps log handlers and the like away from the other tests.
    script = ""
    for block in _blocks(page):
        if block.runs:
            script += "\n" * (block.line - 1 - script.count("\n")) + block.code
    (tmp_path / "page.py").write_text(script)
    # Imported, so that what stands behind `if __name__ == "__main__"` starts no server.
    result = subprocess.run(
        [sys.executable, "-c", "import page"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert result.returncode == 0, f"{page}:\n{result.stdout}{result.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=_names(PAGES))
def test_the_code_of_a_page_compiles(page: Path) -> None:
    """A block that only shows a part is at least Python; it may await at its top level."""
    for block in _blocks(page):
        source = "\n" * (block.line - 1) + block.code
        flags = 0 if block.runs else ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        compile(source, str(page), "exec", flags=flags, dont_inherit=True)


@pytest.mark.parametrize("page", PAGES, ids=_names(PAGES))
def test_the_relative_links_of_a_page_resolve(page: Path) -> None:
    """A relative link leads to a file, and its fragment to a heading or an anchor there."""
    prose = INLINE_CODE.sub("", FENCE.sub("", page.read_text()))
    targets = [
        found["target"] for pattern in (LINK, DEFINITION) for found in pattern.finditer(prose)
    ]
    dead = [
        target for target in targets if not ELSEWHERE.match(target) and not _leads(page, target)
    ]
    assert not dead


def test_the_readme_starts_with_code_that_runs() -> None:
    """The first block of the README is a quickstart: it runs, and it is short."""
    first = _blocks(README)[0]
    assert first.runs
    assert len(first.code.splitlines()) <= MAX_QUICKSTART_LINES


def test_the_commands_in_the_docs_exist() -> None:
    """Every script that a page names can be run; the README names the two that matter."""
    named = {page: set(SCRIPT.findall(page.read_text())) for page in PAGES}
    assert named[README] >= {"scripts/test", "scripts/demo"}
    for script in set().union(*named.values()):
        assert (ROOT / script).is_file(), script
        assert os.access(ROOT / script, os.X_OK), script


def test_the_changelog_knows_the_version() -> None:
    """The version in pyproject.toml has its section in the changelog."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    heading = re.compile(rf"^## +\[?v?{re.escape(version)}(?![\w.])", re.MULTILINE)
    assert heading.search((ROOT / "CHANGELOG.md").read_text())


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Quick start", "quick-start"),
        ("`Redactor`: what it masks", "redactor-what-it-masks"),
        ("What's in a [name](page.md)?", "whats-in-a-name"),
        ("report_to & sinks", "report_to--sinks"),
    ],
)
def test_headings_have_the_anchors_of_github(title: str, slug: str) -> None:
    """The link test knows how a heading becomes an anchor."""
    assert _slug(title) == slug


def _leads(page: Path, target: str) -> bool:
    path, _, fragment = unquote(target).partition("#")
    file = page.parent / path if path else page
    if not file.resolve().is_relative_to(ROOT) or not file.exists():
        return False
    return not fragment or file.suffix != ".md" or fragment in _anchors(file)


def _anchors(page: Path) -> set[str]:
    prose = FENCE.sub("", page.read_text())
    anchors = {found["name"] for found in ANCHOR.finditer(prose)}
    seen: Counter[str] = Counter()
    for found in HEADING.finditer(prose):
        slug = _slug(found["title"])
        # GitHub counts headings of the same words: name, name-1, name-2.
        anchors.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return anchors


def _slug(title: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
    return re.sub(r"[^\w\- ]", "", text).strip().lower().replace(" ", "-")
