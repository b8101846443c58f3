"""Dotted names to classes and functions, and which of them a saved run may name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tm_torchrl.settings.nearest import nearest_name

ALLOWED = ("tm_torchrl", "torch.optim", "torchrl.envs.transforms")  # packages whose classes a saved run may name

RENAMED = {  # targets of earlier versions
    "tm_torchrl.trainers.tasks.TrackManiaTask": "tm_torchrl.tasks.TrackManiaTask",
    "tm_torchrl.trainers.tasks.GymnasiumTask": "tm_torchrl.tasks.GymnasiumTask",
    "tm_torchrl.trainers.game_task.GameTask": "tm_torchrl.tasks.GameTask",
    "tm_torchrl.trainers.reward.Reward": "tm_torchrl.tasks.Reward",
    "tm_torchrl.trainers.policies.boltzmann": "tm_torchrl.algorithms.exploration.boltzmann",
    "tm_torchrl.trainers.policies.epsilon_boltzmann": "tm_torchrl.algorithms.exploration.epsilon_boltzmann",
    "tm_torchrl.trainers.policies.epsilon_greedy": "tm_torchrl.algorithms.exploration.epsilon_greedy",
    "tm_torchrl.trainers.policies.noisy": "tm_torchrl.algorithms.exploration.noisy",
    "tm_torchrl.trainers.soft_reset.SoftReset": "tm_torchrl.trainers.hooks.soft_reset.SoftReset",
    "tm_torchrl.trainers.soft_reset.DormantReset": "tm_torchrl.trainers.hooks.soft_reset.DormantReset",
    "tm_torchrl.game.launcher.GameLauncher": "tm_torchrl.game.instances.GameLauncher",
}


def find_target(path: Any) -> Any:
    """The class or function of a dotted name.

    Args:
        path: Such as ``torch.optim.Adam``.

    Raises:
        ValueError: It is no dotted name, or nothing that can be called.
        ImportError: Its module cannot be imported.
    """
    home, _, last = str(path).rpartition(".")
    if not home or not all(part.isidentifier() for part in str(path).split(".")):
        raise ValueError("must be a dotted name, such as torch.optim.Adam")
    module = importlib.import_module(home)
    if not hasattr(module, last):
        known = getattr(module, "__all__", [key for key in vars(module) if not key.startswith("_")])
        raise ValueError(f"{home} has no {last}{nearest_name(last, known)}")
    target = getattr(module, last)
    if not callable(target):
        raise ValueError(f"must be a class or a function; it is a {type(target).__name__}")
    return target


def renamed(settings: Any) -> Any:
    """The same settings with the present names of targets that earlier versions called otherwise."""
    if isinstance(settings, Mapping):
        found = {key: renamed(value) for key, value in settings.items()}
        if isinstance(found.get("_target_"), str):
            found["_target_"] = RENAMED.get(found["_target_"], found["_target_"])
        return found
    return [renamed(value) for value in settings] if isinstance(settings, list) else settings


def refuse_foreign_targets(settings: Any, *, trust: Sequence[str] = ()) -> None:
    """Raise ``ValueError`` for settings of a saved run that name code from outside this package.

    A run folder is data that people send each other. Names are looked at before anything is imported, and what they
    lead to must be defined in the package too.

    Args:
        settings: Of a saved run.
        trust: Further packages whose classes the settings may name.
    """
    allowed = (*ALLOWED, *trust)
    for name, path in _targets(settings):
        if not any(str(path).startswith(f"{package}.") for package in allowed):
            raise ValueError(
                f"{name}={path}: a saved run may only name classes of {', '.join(allowed)}. If you know what this "
                f"class does, trust its package: trust=[{str(path).partition('.')[0]}] (--trust in other commands)"
            )
        try:
            target = find_target(path)
        except (ValueError, ImportError) as error:
            raise ValueError(f"{name}={path}: {error}") from error
        home = str(getattr(target, "__module__", ""))
        is_plain = inspect.isclass(target) or inspect.isfunction(target)
        if not is_plain or not any(home == package or home.startswith(f"{package}.") for package in allowed):
            raise ValueError(f"{name}={path}: a saved run may not name this; it is defined in {home or 'no module'}")


def _targets(settings: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every ``_target_`` in nested settings, with its own name."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            inner = f"{name}.{key}" if name else str(key)
            if key == "_target_":
                yield inner, value
            else:
                yield from _targets(value, inner)
    elif isinstance(settings, (list, tuple)):
        for i, value in enumerate(settings):
            yield from _targets(value, f"{name}[{i}]")
