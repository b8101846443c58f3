"""Algorithms from settings: which class, and which settings it gets."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from tm_torchrl.algorithms import make_algorithm
from tm_torchrl.algorithms.make import algorithm_class, make_actor
from tm_torchrl.settings import ConfigError
from tm_torchrl.tasks import GymnasiumTask, Task

TASK = GymnasiumTask("CartPole-v1", num_envs=1)
HERE = "tests.algorithms.test_make"


class Recorder:
    """An algorithm that keeps what it is given."""

    def __init__(self, task: Task, *, seed: int, width: int = 1, optimizer: Any = None, log: Any = None) -> None:
        if width < 1:
            raise ValueError(f"width={width}: must be at least 1")
        self.given = {"task": task, "seed": seed, "width": width, "optimizer": optimizer, "log": log}

    @staticmethod
    def make_actor(task: Task, *, width: int = 1, device: str = "cpu") -> nn.Linear:
        return nn.Linear(4, width, device=device)


class DeviceRecorder(Recorder):
    def __init__(self, task: Task, *, seed: int, device: str = "cpu", log: Any = None, **more: Any) -> None:
        super().__init__(task, seed=seed, log=log, **more)
        self.given["device"] = device


def settings(target: str = f"{HERE}.DeviceRecorder", **own: Any) -> dict[str, Any]:
    optimizer = {"_target_": "torch.optim.Adam", "_partial_": True, "eps": 1e-4}
    return {"algorithm": {"_target_": target, **own}, "seed": 3, "total_frames": 100, "optimizer": optimizer}


def test_the_constructor_gets_the_settings_that_it_has_parameters_for() -> None:
    """``total_frames`` and the optimizer are no parameters of this class, ``width`` comes from ``algorithm``."""
    found: Any = make_algorithm(settings(width=5), TASK, device="cpu", log=print)
    assert found.given == {"task": TASK, "seed": 3, "width": 5, "optimizer": None, "log": print, "device": "cpu"}


def test_an_actor_needs_only_its_own_settings() -> None:
    actor: Any = make_actor(settings(width=6), TASK)
    assert actor.out_features == 6


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        (None, "^algorithm: must have a _target_"),
        ({"width": 5}, "^algorithm: must have a _target_"),
        ({"_target_": f"{HERE}.Recordr"}, r"^algorithm\._target_=.*did you mean Recorder"),
        ({"_target_": "absent.Algorithm"}, r"^algorithm\._target_=absent\.Algorithm"),
        ({"_target_": "torch.optim.Adam"}, r"^algorithm\._target_=torch\.optim\.Adam: must be an algorithm"),
    ],
)
def test_a_wrong_class_is_named(algorithm: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        algorithm_class({"algorithm": algorithm})


def test_errors_of_the_constructor_name_the_setting() -> None:
    with pytest.raises(ConfigError, match=r"^width=0"):
        make_algorithm(settings(width=0), TASK)
