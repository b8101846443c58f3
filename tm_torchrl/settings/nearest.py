"""Suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest_name(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known name, if any is near, and all known names.

    >>> nearest_name("liner", ["linear", "staircase"])
    '; did you mean linear? There are: linear, staircase'
    >>> nearest_name("x", ["linear"])
    '; there is: linear'
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    listed = ", ".join(known) if known else "nothing"
    if near:
        return f"; did you mean {near[0]}? There {'is' if len(known) < 2 else 'are'}: {listed}"
    return f"; there {'is' if len(known) < 2 else 'are'}: {listed}"
