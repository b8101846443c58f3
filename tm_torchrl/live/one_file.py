"""The page as one file: its scripts, its style and what a server would answer."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

_POLICY = '<meta http-equiv="Content-Security-Policy" content="{}">'
_ANSWERS = '<script type="application/json" id="answers">{}</script>'
_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w.]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:const|class|function) ([\w$]+))", re.MULTILINE)


def page_with(answers: Mapping[str, Any]) -> str:
    """The page, which opens from a file and asks nobody.

    Args:
        answers: JSON values by request: its path and the values of its query, each in a line.
    """
    folder, script = files("tm_torchrl.live") / "page", script_of("main.js")
    html, style, icon = ((folder / name).read_text("utf-8") for name in ("index.html", "style.css", "icon.svg"))
    image = f"data:image/svg+xml;base64,{base64.b64encode(icon.encode()).decode()}"
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{_digest(script)}'"
    data = json.dumps(answers, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")  # no end of the element
    for old, new in (
        ('<meta charset="utf-8">', f'<meta charset="utf-8">\n{_POLICY.format(policy)}'),
        ('<link rel="stylesheet" href="style.css">', f"<style>{style}</style>"),
        ('"icon.svg"', f'"{image}"'),
        ("</body>", f"<script>{script}</script>\n</body>"),
        ('<script type="module" src="main.js"></script>', _ANSWERS.format(data)),
    ):
        html = html.replace(old, new)
    return html


@cache
def script_of(name: str) -> str:
    """A module and all that it imports as one script, in which each module is a function that is called once."""
    folder = files("tm_torchrl.live") / "page"
    modules: dict[str, str] = {}

    def add(module: str) -> None:
        source = (folder / module).read_text(encoding="utf-8")
        for _, imported in _IMPORT.findall(source):
            if imported not in modules:
                add(imported)
        exported = ", ".join(_EXPORT.findall(source))
        body = _EXPORT.sub("", _IMPORT.sub(lambda found: f"const {{{found[1]}}} = {_variable(found[2])};\n", source))
        modules[module] = f"const {_variable(module)} = (() => {{\n{body}return {{ {exported} }};\n}})();\n"

    add(name)
    return '"use strict";\n' + "".join(modules.values())


def _variable(module: str) -> str:
    return f"module_{module.removesuffix('.js')}"


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
