"""Constructor arguments: parts chosen by name, counts and sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import nn

from tm_torchrl.settings.nearest import nearest_name

Part = TypeVar("Part")


def chosen(name: str, known: Mapping[str, Part], *, argument: str) -> Part:
    """The part with this name; an unknown name raises an error that suggests the nearest one.

    Args:
        name: The name that was given.
        known: Parts by name.
        argument: The argument's name, for the message.

    Examples:
        >>> chosen("relu", {"relu": 1, "gelu": 2}, argument="activation")
        1
        >>> chosen("relo", {"relu": 1, "gelu": 2}, argument="activation")
        Traceback (most recent call last):
        ValueError: activation='relo': unknown; did you mean relu? There are: gelu, relu
    """
    if name in known:
        return known[name]
    raise ValueError(f"{argument}={name!r}: unknown{nearest_name(str(name).lower(), known)}")


def maker(part: Callable[..., Part] | str, known: Mapping[str, Callable[..., Part]], *, argument: str) -> Any:
    """The function that makes a part: looked up by its name, or returned as it is.

    Args:
        part: A name or a function; a module that is already built is refused.
        known: Functions by name; empty if names are not accepted.
        argument: The argument's name, for the message.

    Examples:
        >>> maker(None, {"relu": nn.ReLU}, argument="activation")
        Traceback (most recent call last):
        ValueError: activation=None: must be 'relu', or a function that makes one
    """
    if isinstance(part, str) and known:
        return chosen(part, known, argument=argument)
    if callable(part) and not isinstance(part, nn.Module):
        return part
    given = f"{type(part).__name__}(...)" if isinstance(part, nn.Module) else repr(part)
    names = "".join(f"{name!r}, " for name in sorted(known))
    raise ValueError(f"{argument}={given}: must be {names}{'or ' if known else ''}a function that makes one")


def require_count(value: int, *, argument: str) -> None:
    """Raise an error unless the value is a whole number of at least 1.

    >>> require_count(0, argument="head_size")
    Traceback (most recent call last):
    ValueError: head_size=0: must be a whole number of at least 1
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{argument}={value!r}: must be a whole number of at least 1")


def require_sizes(sizes: Sequence[int], *, argument: str) -> None:
    """Raise an error unless the value is a list of at least one layer size.

    >>> require_sizes([256, 0], argument="hidden_sizes")
    Traceback (most recent call last):
    ValueError: hidden_sizes=[256, 0]: must be a list of whole numbers of at least 1
    """
    try:
        for size in sizes:
            require_count(size, argument=argument)
        is_list = len(sizes) > 0
    except (TypeError, ValueError):
        is_list = False
    if not is_list:
        raise ValueError(f"{argument}={sizes!r}: must be a list of whole numbers of at least 1")
