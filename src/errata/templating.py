"""Jinja2 environments: the user's for error pages, and our own. Jinja2 is imported when needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errata.texts import clip, visible


if TYPE_CHECKING:
    import jinja2


def checked_templates(
    templates: str | os.PathLike[str] | jinja2.Environment | None,
) -> str | jinja2.Environment | None:
    """Return *templates*, a directory as text.

    Raises:
        ValueError: the directory does not exist, or the environment has no loader.
        TypeError: *templates* is neither.
    """
    if templates is None:
        return None
    if isinstance(templates, (str, os.PathLike)):
        directory = os.fspath(templates)
        if not Path(directory).is_dir():
            raise ValueError(f"templates={directory!r} is no directory: create it, or leave it out")
        return directory
    import jinja2

    if not isinstance(templates, jinja2.Environment):
        raise TypeError(f"templates={templates!r} is neither a directory nor a Jinja2 Environment")
    if templates.loader is None:
        raise ValueError("templates is an Environment without a loader: give it loader=…")
    return templates


def users_environment(templates: str | jinja2.Environment) -> jinja2.Environment:
    """Return an environment that plain code can render with, whatever runs around it."""
    import jinja2

    if isinstance(templates, str):
        return jinja2.Environment(loader=jinja2.FileSystemLoader(templates), autoescape=True)
    if not templates.is_async:
        return templates
    # An async template cannot be rendered by plain code within a running loop. The overlay
    # shares everything but what was compiled for async: the templates, and their bytecode.
    overlay = templates.overlay(bytecode_cache=None)
    overlay.is_async = False  # `enable_async=` works from Jinja2 3.1.5 on
    return overlay


def escaped_for(template: jinja2.Template, values: dict[str, Any]) -> dict[str, Any]:
    """Return *values* escaped if the template's environment does not do it."""
    from markupsafe import escape

    automatic = template.environment.autoescape
    if automatic(template.name) if callable(automatic) else automatic:
        return values
    return {name: value and escape(value) for name, value in values.items()}


def our_environment() -> jinja2.Environment:
    """Return an environment of our own templates, which shows what the eye would miss."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("errata"),
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    names: Any = environment.globals
    names["clip"] = clip
    return environment


def _shown(value: Any) -> Any:
    return visible(value) if type(value) is str else value
