"""Dotted names to classes and functions, and which of them a saved run may name."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from tm_torchrl.settings.folder import config_folder
from tm_torchrl.settings.nearest import nearest_name

# A saved run may name the public classes of these modules, and what the files in configs/ name.
PARTS = (
    "tm_torchrl.envs.rewards",
    "tm_torchrl.envs.transforms",
    "tm_torchrl.modules",
    "tm_torchrl.objectives",
    "torch.optim",
    "torchrl.envs.transforms",
)
DOWNLOADING = ("R3MTransform", "Tokenizer", "VC1Transform", "VIPRewardTransform", "VIPTransform")
STARTS_PROGRAMS = "tm_torchrl.game.instances.GameLauncher"

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
    """Raise ``ValueError`` for settings of a saved run that name anything but parts of a training.

    A run folder is data that people send each other: it must not choose what code runs. Names are looked at before
    anything is imported.

    Args:
        settings: Of a saved run.
        trust: Packages whose classes and functions the settings may name as well.
    """
    shipped = _shipped_targets()
    for name, path in _targets(settings):
        if not isinstance(path, str):
            raise ValueError(f"{name}={path}: must be a dotted name")
        if any(path.startswith(f"{package}.") for package in trust):
            continue
        home, _, last = path.rpartition(".")
        if path == STARTS_PROGRAMS:
            raise ValueError(
                f"{name}={path}: this run starts a program. If it is your own, or you know what game.launcher in its "
                "config.yaml starts: trust=[tm_torchrl.game] (--trust tm_torchrl.game in other commands)"
            )
        is_part = home in PARTS and not (home.startswith("torchrl.") and last in DOWNLOADING)
        if not is_part and path not in shipped:
            raise ValueError(
                f"{name}={path}: a saved run may only name classes of {', '.join(PARTS)}, and what configs/ names. If "
                f"you know what this does, trust its module: trust=[{home or path}] (--trust in other commands)"
            )
        try:
            target = find_target(path)
        except (ValueError, ImportError) as error:
            raise ValueError(f"{name}={path}: {error}") from error
        module = str(getattr(target, "__module__", ""))
        is_own = module.startswith(f"{home.partition('.')[0]}.")
        if not is_own or not (inspect.isclass(target) or path in shipped):
            raise ValueError(f"{name}={path}: a saved run may not name this; it is no class of {home}")


@cache
def _shipped_targets() -> frozenset[str]:
    """The targets in the files of ``configs/``, and those that earlier versions had."""
    texts = (path.read_text(encoding="utf-8") for path in config_folder().rglob("*.yaml"))
    found = {name for text in texts for name in re.findall(r"_target_: *(tm_torchrl\.[\w.]+)", text)}
    return frozenset({*found, *RENAMED.values()} - {STARTS_PROGRAMS})


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
