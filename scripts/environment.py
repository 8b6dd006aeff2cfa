"""Install errata and some dependency groups into a virtual environment, if they are not there.

Usage: python scripts/environment.py VENV GROUP...    (`scripts/setup` finds the python)
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path


ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "pyproject.toml"
PROBE = "import sys; assert sys.version_info >= (3, 11); print(sys.version)"


def main(name: str, *groups: str) -> None:
    venv = ROOT / name
    if is_current(venv, groups):
        return
    # The kernel drops this lock with the process, so that a killed run leaves none behind.
    # Whoever waited for it finds the work done.
    with PROJECT.open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_current(venv, groups):
            install(venv, groups)


def is_current(venv: Path, groups: tuple[str, ...]) -> bool:
    try:
        stamp = json.loads(stamp_of(venv).read_text())
        return stamp["key"] == key(venv) and set(groups) <= set(stamp["groups"])
    except (OSError, ValueError, LookupError, TypeError):
        return False


def install(venv: Path, groups: tuple[str, ...]) -> None:
    python = str(venv / "bin" / "python")
    print(f"Setting up {venv.name} ({', '.join(groups)}) ...", file=sys.stderr, flush=True)
    stamp_of(venv).unlink(missing_ok=True)
    if version_of(venv) is None:
        run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(venv))
    if not runs(python, "-c", "import pip"):
        run(python, "-m", "ensurepip")
    # Dependency groups need pip 25.1; a new environment may bring an older one.
    run(python, "-m", "pip", "install", "--quiet", "--upgrade", "pip")
    options = [option for group in groups for option in ("--group", group)]
    run(python, "-m", "pip", "install", "--quiet", "--editable", ".", *options)
    replacement = stamp_of(venv).with_suffix(".new")
    replacement.write_text(json.dumps({"key": key(venv), "groups": groups}))
    replacement.replace(stamp_of(venv))


def stamp_of(venv: Path) -> Path:
    return venv / "errata-setup.json"


def key(venv: Path) -> str:
    """Name all that an installation depends on: the metadata, the interpreter and the place."""
    metadata = hashlib.sha256(PROJECT.read_bytes()).hexdigest()
    return f"{metadata} {version_of(venv)} {ROOT}"


def version_of(venv: Path) -> str | None:
    """Return the version of the environment's interpreter; None if that does not work."""
    try:
        output = subprocess.check_output(
            [venv / "bin" / "python", "-I", "-S", "-c", PROBE], stderr=subprocess.DEVNULL
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return output.decode().strip()


def runs(*command: str) -> bool:
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


def run(*command: str) -> None:
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    # Errors come on stderr; stdout is for what the script itself has to say.
    status = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=False
    ).returncode
    if status != 0:
        sys.exit(f"Setting up failed: {' '.join(command)} exited with status {status}.")


if __name__ == "__main__":
    main(*sys.argv[1:])
