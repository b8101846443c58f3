"""Every Python block of every page compiles; those of the README and docs/ also run, in tests/test_readme.py."""

from __future__ import annotations

import pytest

from tests.docs.pages import PAGES, blocks


@pytest.mark.parametrize("name", [name for name, text in PAGES.items() if blocks(text, "python")])
def test_python_compiles(name: str) -> None:
    for code in blocks(PAGES[name], "python"):
        compile(code, name, "exec")
