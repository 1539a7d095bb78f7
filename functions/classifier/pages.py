"""Pages that the command lines write: each a file that needs nothing besides itself and makes no request."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

BASE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<link rel="icon" href="data:,">
<style>
{{ styles|safe }}</style>
</head>
<body>
{% block body %}{% endblock %}
{% if script %}
<script>{{ script|safe }}</script>
{% endif %}
</body>
</html>
"""
"""What every page is made of: its template begins with ``{% extends "base.html" %}`` and fills the block ``body``."""


def render(template: Path, title: str, *, styles: str, script: str = "", **values: Any) -> str:
    """Return a page. Whatever a label or a path holds is text in it: all that is filled in is escaped.

    Its content security policy forbids every request, and every script but its own.

    Args:
        template: a file of Jinja's, which may include others of its folder.
        title: of the page; the template has it too.
        styles: our own, which are not escaped.
        script: our own.
        values: what the template shows.
    """
    from jinja2 import ChoiceLoader, DictLoader, Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([DictLoader({"base.html": BASE}), FileSystemLoader(template.parent)]),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(template.name).render(
        policy=_policy(script), title=title, styles=styles, script=script, **values
    )


def data_address(content: bytes, media_type: str = "image/jpeg") -> str:
    """Return the ``data:`` URL of a picture, which a page may show."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _policy(script: str) -> str:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    if not script:
        return policy
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{policy}; script-src 'sha256-{digest}'"
