"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MARKS = {"l": "---", "r": "--:"}


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, align: str = "lr") -> list[str]:
    """The lines of a table.

    Examples:
        >>> table(["way", "s", "MB"], [("float32", "1.5", "30")])
        ['| way | s | MB |', '|---|--:|--:|', '| float32 | 1.5 | 30 |']
    """
    marks = [MARKS[letter] for letter in align.ljust(len(titles), align[-1])]
    return [f"| {' | '.join(titles)} |", f"|{'|'.join(marks)}|", *(f"| {' | '.join(row)} |" for row in rows)]
