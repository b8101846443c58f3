"""Every link between pages leads somewhere, and to a heading that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import FENCE, PAGES, ROOT, prose

LINK = re.compile(r"\]\((?!\w+:)([^)\s#]*)(?:#([^)\s]+))?\)")


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as repositories and MkDocs make them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), flags=re.M)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title.strip().lower())) for title in titles}


def broken_links(name: str, text: str) -> list[str]:
    broken = []
    for path, anchor in LINK.findall(prose(text)):
        target = (ROOT / name).parent / path if path else ROOT / name
        if not target.is_file():
            broken.append(path)
        elif anchor and anchor not in anchors(target.read_text("utf-8")):
            broken.append(f"{path}#{anchor}")
    return broken


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    assert broken_links(name, PAGES[name]) == []


def test_a_broken_link_is_found() -> None:
    text = "# One two\n[a](no.md) [b](README.md#licence) [c](README.md#license) [d](#one-two) [e](https://x.org/no)"
    assert broken_links("page.md", text)[:2] == ["no.md", "README.md#license"]


def test_all_pages_can_be_reached_from_the_readme() -> None:
    seen, waiting = set(), ["README.md"]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in PAGES:
            continue
        seen.add(name)
        paths = ((ROOT / name).parent / path for path, _ in LINK.findall(prose(PAGES[name])) if path)
        waiting += [path.resolve().relative_to(ROOT).as_posix() for path in paths]
    assert set(PAGES) - seen == set()


def test_the_site_has_all_pages() -> None:
    nav = Path(ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:")[2]
    names = {name.removeprefix("docs/") for name in PAGES} - {"README.md"} | {"index.md"}
    assert {name for name in names if name not in nav} == set()
