"""A part chosen by its name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import nn

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
    hint = f"did you mean {near[0]!r}? One" if near else "one"
    listed = ", ".join(repr(each) for each in sorted(known))
    raise ValueError(f"{argument}={name!r}: unknown; {hint} of {listed} is wanted")


def maker(part: Callable[..., Part] | str, known: Mapping[str, Callable[..., Part]], *, argument: str) -> Any:
    """What makes a part: the one that a name stands for, or a function that makes it, returned as it is.

    Args:
        part: name or function; a module that is made already is neither.
        known: functions by name; none if names are not taken.
        argument: through which it came, for the message.

    Examples:
        >>> maker(None, {"relu": nn.ReLU}, argument="activation")
        Traceback (most recent call last):
        ValueError: activation=None: one of 'relu', or a function that makes one, is wanted
    """
    if isinstance(part, str) and known:
        return chosen(part, known, argument=argument)
    if callable(part) and not isinstance(part, nn.Module):
        return part
    given = f"{type(part).__name__}(...)" if isinstance(part, nn.Module) else repr(part)
    names = f"one of {', '.join(map(repr, sorted(known)))}, or " if known else ""
    ends = f"{names}a function that makes one{',' if known else ''} is wanted"
    raise ValueError(f"{argument}={given}: {ends}")


def require_count(value: int, *, argument: str) -> None:
    """Refuse what is no whole number of at least 1.

    >>> require_count(0, argument="head_size")
    Traceback (most recent call last):
    ValueError: head_size=0: a whole number of at least 1 is wanted
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{argument}={value!r}: a whole number of at least 1 is wanted")


def require_sizes(sizes: Sequence[int], *, argument: str) -> None:
    """Refuse what is no list of sizes of layers, one at least.

    >>> require_sizes([256, 0], argument="hidden_sizes")
    Traceback (most recent call last):
    ValueError: hidden_sizes=[256, 0]: a list of whole numbers of at least 1 is wanted
    """
    try:
        for size in sizes:
            require_count(size, argument=argument)
        is_list = len(sizes) > 0
    except (TypeError, ValueError):
        is_list = False
    if not is_list:
        raise ValueError(f"{argument}={sizes!r}: a list of whole numbers of at least 1 is wanted")
