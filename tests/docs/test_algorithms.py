"""The page of each algorithm has its paper, equation, command and code, and the overview leads there."""

from __future__ import annotations

import pytest

from tests.docs.pages import PAGES, ROOT, blocks

PREFIX = "docs/algorithms/"
OF_EACH = [name for name in PAGES if name.startswith(PREFIX)]


def absent(text: str) -> list[str]:
    """What a page lacks."""
    needed = {
        "paper": "](https://" in text,
        "equation": bool(blocks(text, "math")),
        "command": any("tm-torchrl train" in code for code in blocks(text, "bash")),
        "code": "](../../tm_torchrl/" in text or "](../../configs/" in text,
    }
    return [what for what, is_there in needed.items() if not is_there]


@pytest.mark.parametrize("name", OF_EACH)
def test_a_page_has_all_parts(name: str) -> None:
    assert absent(PAGES[name]) == ([] if name != f"{PREFIX}btr.md" else ["equation"]), "BTR is made of others"
    assert f"]({name.removeprefix('docs/')}" in PAGES["docs/algorithms.md"]


def test_what_a_page_lacks_is_found() -> None:
    assert absent("# IQN\n\n```bash\ntm-torchrl evaluate RUN\n```\n") == ["paper", "equation", "command", "code"]


def test_every_picture_of_an_algorithm_is_shown() -> None:
    pictures = {path.name for path in (ROOT / "docs" / "images" / "algorithms").glob("*.png")}
    text = "".join(PAGES[name] for name in OF_EACH)
    assert pictures == {name for name in pictures if f"images/algorithms/{name}" in text} != set()
