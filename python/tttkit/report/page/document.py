"""The frame of a page: one HTML file with its style, its scripts and its figures, which needs no network."""

from __future__ import annotations

import json
from importlib.resources import files as resources
from typing import Any

from tttkit.report.page import colours
from tttkit.report.page.tables import escape
from tttkit.storage import files

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"


def document(title: str, body: str, data: dict[str, Any] | None = None) -> str:
    """Return a page with this body, in HTML already. With `data`, scripts draw interactive curves from it."""
    style = _resource("page.css") + (colours.stylesheet() if data else "")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)} · tttkit</title>\n'
        f"<style>\n{style}</style>\n</head>\n"
        f"<body>\n{body}\n{_scripts(data) if data else ''}</body>\n</html>\n"
    )


def _scripts(data: dict[str, Any]) -> str:
    """Return the scripts and their data. The JSON spells `<` as an escape, so that no text of a run can end the script
    element."""
    figures = json.dumps(files.json_safe(data), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return (
        f'<script type="application/json" id="data">{figures}</script>\n'
        f"<script>\n{_resource('chart.js')}{_resource('page.js')}</script>\n"
    )


def _resource(name: str) -> str:
    return resources("tttkit.report.page").joinpath(name).read_text("utf-8")
