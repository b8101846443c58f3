"""Objects from settings: ``_target_`` and its arguments, checked before anything is built."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import sys
import types
import typing
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tm_torchrl.settings.nearest import nearest_name
from tm_torchrl.settings.targets import find_target


class ConfigError(ValueError):
    """The configuration is invalid; the message names the setting, its value and what is expected."""


def construct(settings: Any, *, name: str, **given: Any) -> Any:
    """The object that a mapping with ``_target_`` describes; mappings inside that have one too are constructed first.

    With ``_partial_: true`` the result is a function that waits for the remaining arguments. Where it is called with
    an argument that the settings name too, the settings win.

    Args:
        settings: ``_target_`` (a dotted name) and arguments.
        name: The setting's name, for messages.
        given: Further arguments, which settings may not name.

    Examples:
        >>> budget = construct({"_target_": "tm_torchrl.data.ReuseBudget", "uses_per_transition": 8}, name="budget")
        >>> budget.uses_per_transition
        8
        >>> construct({"_target_": "tm_torchrl.data.ReuseBudget", "uses": 8}, name="replay.budget")
        Traceback (most recent call last):
        tm_torchrl.settings.construct.ConfigError: replay.budget.uses: ReuseBudget has no such parameter; ...
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{name}={shown(settings)}: must be a mapping with _target_, which says what to build")
    if "_target_" not in settings:
        raise ConfigError(
            f"{name}: must have a _target_ that says what to build; it has {', '.join(settings) or 'nothing'}"
        )
    if not isinstance(settings.get("_partial_", False), bool):
        raise ConfigError(f"{name}._partial_={shown(settings['_partial_'])}: must be true or false")
    target = _find(settings["_target_"], name)
    arguments = {key: value for key, value in settings.items() if not str(key).startswith("_")}
    built = _arguments(target, arguments, given, name)
    if settings.get("_partial_"):
        return Later(target, {**built, **given}, name)
    absent = _absent_arguments(target, {**built, **given})
    if absent:
        raise ConfigError(f"{name}: {absent} must be given; add _partial_: true if the object that uses it gives it")
    return _call(target, (), {**built, **given}, name)


@dataclass(frozen=True)
class Later:
    """What ``_partial_: true`` gives: a ``functools.partial`` whose errors name the setting. Its own arguments win.

    Args:
        func: Will be called.
        keywords: Arguments from the settings.
        name: The setting's name, for messages.
    """

    func: Callable[..., Any]
    keywords: Mapping[str, Any]
    name: str

    def __call__(self, *positional: Any, **keywords: Any) -> Any:
        """The object."""
        return _call(self.func, positional, {**keywords, **self.keywords}, self.name)


def refuse_given(part: Later | partial, names: Iterable[str], *, name: str) -> None:
    """Raise ``ConfigError`` if a part has an argument that its caller gives.

    Args:
        part: Waits for more arguments.
        names: Arguments that it will get.
        name: The setting's name, for the message.
    """
    if not isinstance(part, (Later, partial)):
        raise ConfigError(f"{name}: must have a _target_; this choice has none, because it is for another algorithm")
    for key in sorted(part.keywords.keys() & set(names)):
        raise ConfigError(f"{name}.{key}: is not a setting here, because it is known from elsewhere; leave it out")


def construct_later(settings: Any, *, name: str, **given: Any) -> Later:
    """The same where the object that uses it gives the remaining arguments; ``_partial_: true`` is required.

    Args:
        settings: ``_target_`` and arguments.
        name: The setting's name, for messages.
        given: Further arguments, which settings may not name.
    """
    found: Later = construct(settings, name=name, **given)
    if not settings.get("_partial_"):
        raise ConfigError(f"{name}: the object that uses it gives further arguments; add _partial_: true")
    return found


def construct_as(target: Callable[..., Any], settings: Any, *, name: str, **given: Any) -> Any:
    """What a function or class makes of a mapping without ``_target_``.

    Args:
        target: Called with the settings.
        settings: Its arguments.
        name: The setting's name, for messages; empty for settings at the top.
        given: Further arguments, which settings may not name.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{name}={shown(settings)}: must be a mapping of settings")
    built = _arguments(target, settings, given, name)
    absent = _absent_arguments(target, {**built, **given})
    if absent:
        raise ConfigError(f"{_joined(name, absent)}: this setting is missing; compose_settings() has all of them")
    return _call(target, (), {**built, **given}, name)


def sections_for(
    target: Callable[..., Any], settings: Mapping[str, Any], *, given: Container[str] = ()
) -> dict[str, Any]:
    """Those top-level settings that a function or class has parameters for, with all objects inside constructed.

    Args:
        target: Its parameters' names are the names of settings.
        settings: A whole configuration.
        given: Names of parameters that are not settings.
    """
    names = [key for key in inspect.signature(target).parameters if key in settings and key not in given]
    return {key: construct_inside(settings[key], name=key) for key in names}


def construct_inside(value: Any, *, name: str) -> Any:
    """A value in which every mapping with ``_target_``, at any depth, is replaced by its object."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            return construct(value, name=name)
        return {key: construct_inside(part, name=f"{name}.{key}") for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [construct_inside(part, name=f"{name}[{i}]") for i, part in enumerate(value)]
    return value


@contextlib.contextmanager
def named(name: str, *, parameters: Container[str] = ()) -> Iterator[None]:
    """Errors raised inside become a ``ConfigError`` that names the setting.

    Args:
        name: The setting's name.
        parameters: Names of its own settings; a message that begins with one of them gets the full name.

    >>> with named("replay", parameters=["batch_size"]):
    ...     raise ValueError("batch_size=0: must be at least 1")
    Traceback (most recent call last):
    tm_torchrl.settings.construct.ConfigError: replay.batch_size=0: must be at least 1
    """
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(_prefixed(name, str(error), parameters)) from error
    except (ArithmeticError, LookupError, MemoryError) as error:  # mostly from enormous numbers
        raise ConfigError(f"{name}: {type(error).__name__}: {error}") from error


def shown(value: Any) -> str:
    """A value nearly as it is written on the command line: ``null`` and ``true``, not ``None`` and ``True``.

    >>> shown(None), shown(True), shown("abc"), shown([1, "a"])
    ('null', 'true', "'abc'", '[1, a]')
    """
    if isinstance(value, list):
        return f"[{', '.join(part if isinstance(part, str) else shown(part) for part in value)}]"
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


def check_arguments(target: Any, arguments: Mapping[str, Any], given: Container[str], name: str) -> dict[str, Any]:
    """Arguments checked against a target's parameters: their names, and their kinds where these are simple.

    Whole numbers may be written as 1e6.

    Args:
        target: Will be called with them.
        arguments: Settings.
        given: Names of parameters that settings may not name.
        name: The settings' name, for messages.
    """
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(arguments)
    known = [key for key in parameters if key not in given and key != "self"]
    for key in arguments:
        if key not in known:
            what = getattr(target, "__name__", str(target))
            hint = nearest_name(str(key), known)
            raise ConfigError(f"{_joined(name, str(key))}: {what} has no such parameter{hint}")
    hints = _hints(target)
    found = {}
    for key, value in arguments.items():
        kinds = _kinds_of(hints.get(key))
        if int in kinds and float not in kinds and isinstance(value, float) and value.is_integer():
            value = int(value)
        if kinds and not any(_is_of(value, kind) for kind in kinds):
            expected = " or ".join(dict.fromkeys(_WORDS.get(kind, "settings with _target_") for kind in kinds))
            raise ConfigError(f"{_joined(name, key)}={shown(value)}: must be {expected}")
        found[key] = value
    return found


def _arguments(target: Any, arguments: Mapping[str, Any], given: Container[str], name: str) -> dict[str, Any]:
    """Checked arguments, with the objects inside constructed."""
    checked = check_arguments(target, arguments, given, name)
    hints = _hints(target)
    built = {}
    for key, value in checked.items():
        inner = _joined(name, key)
        parts = [kind for kind in _kinds_of(hints.get(key)) if _is_part(kind)]
        if len(parts) == 1 and isinstance(value, Mapping) and "_target_" not in value:
            built[key] = construct_as(parts[0], value, name=inner)
        else:
            built[key] = construct_inside(value, name=inner)
    return check_arguments(target, built, given, name)  # again: constructed objects have kinds too


def _hints(target: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError, AttributeError):  # annotations that only a type checker can resolve
        return {}


def _call(target: Any, positional: tuple[Any, ...], arguments: dict[str, Any], name: str) -> Any:
    with named(name, parameters=arguments):
        try:
            return target(*positional, **arguments)
        except TypeError as error:
            plain = [
                f"{key}={value!r}" for key, value in arguments.items() if isinstance(value, (str, int, float, list))
            ]
            raise TypeError(f"{', '.join(plain)}: {error}" if plain else str(error)) from error
        except RuntimeError as error:  # from torch
            raise ConfigError(_prefixed(name, str(error), arguments)) from error


def _find(path: Any, name: str) -> Any:
    try:
        return find_target(path)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"{_joined(name, '_target_')}={path}: {error}") from error


def _joined(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _prefixed(name: str, message: str, parameters: Container[str]) -> str:
    """The message with the setting's full name: ``replay`` and ``batch_size=0: ...`` give ``replay.batch_size=0: ...``.

    Messages that do not begin with an argument keep their own words behind the name.
    """
    if not name or message.startswith(name):
        return message
    head = message.split("=", 1)[0].split(":", 1)[0]
    return f"{name}.{message}" if head in parameters else f"{name}: {message}"


def _absent_arguments(target: Any, arguments: Mapping[str, Any]) -> str:
    """The parameters without a default that nobody gave."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return ", ".join(
        key
        for key, parameter in inspect.signature(target).parameters.items()
        if parameter.kind in kinds and parameter.default is inspect.Parameter.empty and key not in arguments
    )


_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text",
                          Path: "a path", type(None): "null"}  # fmt: skip


def _kinds_of(hint: Any) -> list[Any]:
    """The kinds that an annotation names, if all of them are simple ones or classes of our own; otherwise none."""
    kinds = list(typing.get_args(hint)) if isinstance(hint, types.UnionType) else [hint]
    if typing.get_origin(hint) is typing.Union:
        kinds = list(typing.get_args(hint))
    return kinds if all(kind in _WORDS or _is_part(kind) for kind in kinds) else []


def _is_part(kind: Any) -> bool:
    """Whether it is a class of our own, which settings describe by a mapping."""
    is_ours = inspect.isclass(kind) and str(kind.__module__).startswith("tm_torchrl.")
    return is_ours and not getattr(kind, "_is_protocol", False)


def _is_of(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if _is_part(kind):
        return isinstance(value, (kind, Mapping))
    if kind is float:
        if isinstance(value, int):
            return abs(value) <= sys.float_info.max
        return isinstance(value, float) and not math.isnan(value)
    return isinstance(value, (str, Path) if kind is Path else kind)
