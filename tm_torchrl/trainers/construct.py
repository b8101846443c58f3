"""Objects from configuration: ``_target_`` and its arguments, checked before anything is built."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from tm_torchrl.trainers.nearest import nearest_name


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
        tm_torchrl.trainers.construct.ConfigError: replay.budget.uses: ReuseBudget takes no such setting; ...
    """
    if "_target_" not in settings:
        raise ConfigError(f"{name}: no _target_ says what to build; it holds {', '.join(settings) or 'nothing'}")
    target = _find(str(settings["_target_"]), name)
    arguments = {key: value for key, value in settings.items() if not key.startswith("_")}
    _check_arguments(target, arguments, given, name)
    built = {key: _construct_inside(value, name=f"{name}.{key}") for key, value in arguments.items()}
    if settings.get("_partial_"):
        return lambda *late, **more: _call(target, late, {**more, **built, **given}, name)
    return _call(target, (), {**built, **given}, name)


def _call(target: Any, positional: tuple[Any, ...], arguments: dict[str, Any], name: str) -> Any:
    try:
        return target(*positional, **arguments)
    except (ValueError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{name}: {error}") from error


def _construct_inside(value: Any, *, name: str) -> Any:
    if isinstance(value, Mapping) and "_target_" in value:
        return construct(value, name=name)
    if isinstance(value, (list, tuple)):
        return [_construct_inside(part, name=f"{name}[{i}]") for i, part in enumerate(value)]
    return value


def _find(path: str, name: str) -> Any:
    home, _, last = path.rpartition(".")
    try:
        module = importlib.import_module(home)
    except ImportError as error:
        raise ConfigError(f"{name}._target_={path}: {error}") from error
    try:
        return getattr(module, last)
    except AttributeError:
        known = getattr(module, "__all__", [key for key in vars(module) if not key.startswith("_")])
        raise ConfigError(f"{name}._target_={path}: {home} has no {last}{nearest_name(last, known)}") from None


def _check_arguments(target: Any, arguments: Mapping[str, Any], given: Mapping[str, Any], name: str) -> None:
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    known = [key for key in parameters if key not in given and key != "self"]
    for key in arguments:
        if key not in known:
            what = getattr(target, "__name__", str(target))
            raise ConfigError(f"{name}.{key}: {what} takes no such setting{nearest_name(key, known)}")
