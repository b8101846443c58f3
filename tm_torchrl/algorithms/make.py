"""Algorithms and actors from settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from tensordict.nn import TensorDictModuleBase

from tm_torchrl.algorithms.algorithm import Algorithm
from tm_torchrl.algorithms.warm_start import warm_start
from tm_torchrl.settings.construct import ConfigError, construct_as, sections_for
from tm_torchrl.settings.targets import find_target
from tm_torchrl.tasks.task import Task

Settings = Mapping[str, Any]
GIVEN = ("task", "device", "log")  # parameters that never come from settings


def make_algorithm(
    settings: Settings,
    task: Task,
    *,
    device: torch.device | str = "cpu",
    log: Callable[[str], None] = lambda message: None,
) -> Algorithm:
    """The algorithm that ``algorithm._target_`` names, with the settings that it has parameters for.

    ``warm_start`` loads weights into its network, unless a run is resumed.

    Args:
        settings: A complete configuration.
        task: What is trained on.
        device: Device of the networks.
        log: Takes messages.
    """
    target = algorithm_class(settings)
    own = {key: value for key, value in settings["algorithm"].items() if not key.startswith("_")}
    shared = sections_for(target, settings, given=GIVEN)
    algorithm: Algorithm = construct_as(target, {**shared, **own}, name="", task=task, device=device, log=log)
    if settings.get("warm_start") is not None and settings.get("resume") is None:
        construct_as(warm_start, settings["warm_start"], name="warm_start", algorithm=algorithm, log=log)
    return algorithm


def make_actor(settings: Settings, task: Task, *, device: torch.device | str = "cpu") -> TensorDictModuleBase:
    """The untrained actor of the algorithm.

    Args:
        settings: A complete configuration.
        task: What is trained on.
        device: Device of the network.
    """
    make = algorithm_class(settings).make_actor
    shared = sections_for(make, settings, given=GIVEN)
    own = {key: value for key, value in settings["algorithm"].items() if key in inspect.signature(make).parameters}
    actor: TensorDictModuleBase = construct_as(make, {**shared, **own}, name="", task=task, device=device)
    return actor


def algorithm_class(settings: Settings) -> Any:
    """The class that ``algorithm._target_`` names."""
    if not isinstance(settings.get("algorithm"), Mapping) or "_target_" not in settings["algorithm"]:
        raise ConfigError("algorithm: must have a _target_, the class of an algorithm; compose_settings() gives one")
    path = settings["algorithm"]["_target_"]
    try:
        target = find_target(path)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"algorithm._target_={path}: {error}") from error
    if not hasattr(target, "make_actor"):
        raise ConfigError(f"algorithm._target_={path}: must be an algorithm, such as QuantileAlgorithm")
    return target
