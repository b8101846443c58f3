"""Figures as SVG inside a page, in the page's colours and font."""

from __future__ import annotations

import html
import io
import re

import matplotlib as mpl
from matplotlib.figure import Figure

from tm_torchrl.record.plots import BLUE, EDGE, FAINT, GREEN, INK, ORANGE, RED

THEME = {  # colour in figures: its CSS variable, and what it becomes in light and in dark mode
    INK: ("ink", INK, "#e8edf2"),
    FAINT: ("dim", "#5c6977", "#9aa7b4"),
    EDGE: ("edge", "#dbe1e7", "#35424f"),
    BLUE: ("blue", BLUE, "#6aa9ea"),
    ORANGE: ("orange", ORANGE, "#f0a25f"),
    GREEN: ("green", GREEN, "#5bbf85"),
    RED: ("red", RED, "#ff7b72"),
}
LIGHT, DARK = ("".join(f" --{row[0]}: {row[column]};" for row in THEME.values()) for column in (1, 2))


def inline_svg(figure: Figure, label: str) -> str:
    """A figure as an ``<svg>`` element; its colours of ``THEME`` become CSS variables.

    Args:
        figure: The figure; text in it is escaped.
        label: What it shows, for those who do not see it; different for each figure of a page.
    """
    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": label, "path.simplify_threshold": 0.2}):
        figure.savefig(file, format="svg", facecolor="none")
    text = file.getvalue()
    text = re.sub(r"<(metadata|style)\b.*?</\1>|<!--.*?-->|<g id=\"[^\"]*\"(?=>)", _without, text, flags=re.DOTALL)
    text = re.sub(r' (?:d|x|y|transform)="[^"]*"', lambda match: re.sub(r"(\.\d)\d+", r"\1", match.group()), text)
    text = re.sub(r"(font: [\d.]+px)[^;\"]*", r"\1 system-ui, sans-serif", text)
    for colour, (name, _, _) in THEME.items():
        text = text.replace(colour, f"var(--{name})")
    view = re.search(r'viewBox="[^"]*"', text)
    start = text.index(">", text.index("<svg")) + 1
    return f'<svg role="img" aria-label="{html.escape(label)}" {view.group() if view else ""}>' + text[start:].strip()


def _without(match: re.Match[str]) -> str:
    return "<g" if match.group().startswith("<g") else ""
