"""Objects from configuration: ``_target_`` and its arguments, checked before anything is built."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import math
import sys
import types
import typing
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from tm_torchrl.settings.nearest import nearest_name


class ConfigError(ValueError):
    """Something in the configuration cannot be meant so."""


def construct(settings: Mapping[str, Any], *, name: str, **given: Any) -> Any:
    """What a mapping with ``_target_`` describes; mappings inside that have one too are constructed first.

    With ``_partial_: true`` it is a function that waits for the remaining arguments; where it is called with one that
    the settings name too, the settings win.

    Args:
        settings: ``_target_`` (a dotted name) and arguments.
        name: of the setting, for messages.
        given: further arguments, which settings may not name.

    Examples:
        >>> budget = construct({"_target_": "tm_torchrl.data.ReuseBudget", "uses_per_transition": 8}, name="budget")
        >>> budget.uses_per_transition
        8
        >>> construct({"_target_": "tm_torchrl.data.ReuseBudget", "uses": 8}, name="replay.budget")
        Traceback (most recent call last):
        tm_torchrl.settings.construct.ConfigError: replay.budget.uses: ReuseBudget takes no such setting; ...
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{name}={settings!r}: a mapping with _target_, which says what to build, wanted")
    for key in settings:
        if not isinstance(key, str):
            raise ConfigError(f"{name}: {key!r} stands there as a name; names are texts")
    if "_target_" not in settings:
        raise ConfigError(f"{name}: no _target_ says what to build; it holds {', '.join(settings) or 'nothing'}")
    if not isinstance(settings.get("_partial_", False), bool):
        raise ConfigError(f"{name}._partial_={shown(settings['_partial_'])}: true or false wanted")
    target = _find(str(settings["_target_"]), name)
    arguments = {key: value for key, value in settings.items() if not key.startswith("_")}
    check_arguments(target, arguments, given, name)
    built = {key: _construct_inside(value, name=f"{name}.{key}") for key, value in arguments.items()}
    check_arguments(target, built, given, name)  # again: parts of parts are of their kind too
    if settings.get("_partial_"):
        return lambda *late, **more: _call(target, late, {**more, **built, **given}, name)
    absent = _absent_arguments(target, {**built, **given})
    if absent:
        raise ConfigError(f"{name}: {absent} is still to be given by what uses it; add _partial_: true")
    return _call(target, (), {**built, **given}, name)


def construct_later(settings: Mapping[str, Any], *, name: str, **given: Any) -> Callable[..., Any]:
    """The same where what uses it gives the remaining arguments; refused without ``_partial_: true``.

    Args:
        settings: ``_target_`` and arguments.
        name: of the setting, for messages.
        given: further arguments, which settings may not name.
    """
    found: Callable[..., Any] = construct(settings, name=name, **given)
    if not settings.get("_partial_"):
        raise ConfigError(f"{name}: what uses it gives further arguments; add _partial_: true")
    return found


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
    """What cannot be meant so inside is a ``ConfigError`` that names the setting.

    >>> with named("replay"):
    ...     raise ValueError("batch_size=0: at least 1 is needed")
    Traceback (most recent call last):
    tm_torchrl.settings.construct.ConfigError: replay: batch_size=0: at least 1 is needed
    """
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{name}: {error}") from error
    except (ArithmeticError, LookupError, MemoryError) as error:  # of numbers beyond all measure, mostly
        raise ConfigError(f"{name}: {type(error).__name__}: {error}") from error


def shown(value: Any) -> str:
    """A value as it is written on the command line, nearly: ``null`` and ``true``, not ``None`` and ``True``.

    >>> shown(None), shown(True), shown("abc"), shown([1, "a"])
    ('null', 'true', "'abc'", '[1, a]')
    """
    if isinstance(value, list):
        return f"[{', '.join(part if isinstance(part, str) else shown(part) for part in value)}]"
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


def _call(target: Any, positional: tuple[Any, ...], arguments: dict[str, Any], name: str) -> Any:
    with named(name):
        try:
            return target(*positional, **arguments)
        except TypeError as error:
            plain = [
                f"{key}={value!r}" for key, value in arguments.items() if isinstance(value, (str, int, float, list))
            ]
            raise TypeError(f"{', '.join(plain)}: {error}" if plain else str(error)) from error
        except RuntimeError as error:  # torch's word for what it cannot make
            raise ConfigError(f"{name}: {error}") from error


def _construct_inside(value: Any, *, name: str) -> Any:
    if isinstance(value, Mapping) and "_target_" in value:
        return construct(value, name=name)
    if isinstance(value, (list, tuple)):
        return [_construct_inside(part, name=f"{name}[{i}]") for i, part in enumerate(value)]
    return value


def _find(path: str, name: str) -> Any:
    home, _, last = path.rpartition(".")
    if not all(part.isidentifier() for part in path.split(".")) or not home:
        raise ConfigError(f"{name}._target_={path}: a dotted name, such as torch.optim.Adam, wanted")
    try:
        module = importlib.import_module(home)
    except ImportError as error:
        raise ConfigError(f"{name}._target_={path}: {error}") from error
    try:
        target = getattr(module, last)
        if not callable(target):
            raise ConfigError(f"{name}._target_={path}: it is a {type(target).__name__}; what can be called is wanted")
        return target
    except AttributeError:
        known = getattr(module, "__all__", [key for key in vars(module) if not key.startswith("_")])
        raise ConfigError(f"{name}._target_={path}: {home} has no {last}{nearest_name(last, known)}") from None


def check_arguments(target: Any, arguments: Mapping[str, Any], given: Container[str], name: str) -> None:
    """Settings against the parameters that they are for: that they exist, and of their kind where it is a simple one.

    Args:
        target: will be called.
        arguments: settings.
        given: names of parameters that settings may not name.
        name: of the settings, for messages.
    """
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    known = [key for key in parameters if key not in given and key != "self"]
    for key in arguments:
        if key not in known:
            what = getattr(target, "__name__", str(target))
            raise ConfigError(f"{name}.{key}: {what} takes no such setting{nearest_name(key, known)}")
    try:
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError, AttributeError):  # annotations that hold only for a type checker
        return
    for key, value in arguments.items():
        kinds = _kinds_of(hints.get(key))
        if kinds and not any(_is_of(value, kind) for kind in kinds):
            wanted = " or ".join(dict.fromkeys(_WORDS.get(kind, "settings with _target_") for kind in kinds))
            raise ConfigError(f"{name}.{key}={shown(value)}: {wanted} wanted")


def _absent_arguments(target: Any, arguments: Mapping[str, Any]) -> str:
    """Arguments without a default that nobody gave."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return ", ".join(
        key
        for key, parameter in inspect.signature(target).parameters.items()
        if parameter.kind in kinds and parameter.default is inspect.Parameter.empty and key not in arguments
    )


_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text",
                          Path: "a path", type(None): "null"}  # fmt: skip


def _kinds_of(hint: Any) -> list[Any]:
    """Of an annotation that holds nothing but simple kinds and classes of parts; of any other, none."""
    kinds = list(typing.get_args(hint)) if isinstance(hint, types.UnionType) else [hint]
    if typing.get_origin(hint) is typing.Union:
        kinds = list(typing.get_args(hint))
    return kinds if all(kind in _WORDS or _is_part(kind) for kind in kinds) else []


def _is_part(kind: Any) -> bool:
    """Whether it is a class of our own, which settings describe by ``_target_``."""
    is_ours = inspect.isclass(kind) and str(kind.__module__).startswith("tm_torchrl.")
    return is_ours and not getattr(kind, "_is_protocol", False)


def _is_of(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if _is_part(kind):
        return isinstance(value, kind) or (isinstance(value, Mapping) and "_target_" in value)
    if kind is float:
        if isinstance(value, int):
            return abs(value) <= sys.float_info.max
        return isinstance(value, float) and not math.isnan(value)
    return isinstance(value, (str, Path) if kind is Path else kind)
