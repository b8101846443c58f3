"""A part chosen by its name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

Part = TypeVar("Part")


def chosen(name: str, known: Mapping[str, Part], *, argument: str) -> Part:
    """What a name stands for; an unknown one is refused with the nearest that there is.

    Args:
        name: given.
        known: parts by name.
        argument: through which the name came, for the message.

    Examples:
        >>> chosen("relu", {"relu": 1, "gelu": 2}, argument="activation")
        1
        >>> chosen("relo", {"relu": 1, "gelu": 2}, argument="activation")
        Traceback (most recent call last):
        ValueError: activation='relo': unknown; did you mean 'relu'? One of 'gelu', 'relu' is wanted
    """
    if name in known:
        return known[name]
    near = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(repr(each) for each in sorted(known))
    raise ValueError(f"{argument}={name!r}: unknown; {hint}One of {listed} is wanted")
