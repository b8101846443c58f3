"""What driving tasks let a network see."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tensordict import TensorDictBase
from torchrl.data import TensorSpec, Unbounded
from torchrl.envs.transforms import CatFrames, Transform

from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.tasks import TrackManiaTask
from tm_torchrl.tasks.task import make_task


def test_only_some_floats_are_seen() -> None:
    task = make_task(compose_settings(["env.floats=[velocity,gear]"]))
    arguments = task.network_arguments()
    assert arguments["num_inputs"] == 184  # what the environment delivers and the replay keeps
    assert arguments["normalize"].columns.tolist() == [34, 56, 57, 58]


def test_a_float_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"floats: 'velocty'.*did you mean velocity"):
        make_task(compose_settings(["env.floats=[velocty]"]))


def test_stacked_floats_are_normalised_and_chosen_in_each_step() -> None:
    stack = partial(CatFrames, N=3, dim=-1, in_keys=["observation"])
    task = TrackManiaTask(track="oval", floats=["velocity"], transforms=[stack])
    normalize = task.network_arguments()["normalize"]
    assert normalize.columns.tolist() == [56, 57, 58, 240, 241, 242, 424, 425, 426]
    of_one_step = TrackManiaTask(track="oval", floats=["velocity"]).network_arguments()["normalize"]
    floats = torch.randn(184)
    assert torch.equal(normalize(floats.repeat(3)), of_one_step(floats).repeat(3))


def test_appended_floats_are_seen_beside_the_chosen_ones() -> None:
    task = TrackManiaTask(track="oval", floats=["gear"], transforms=[partial(AppendTwo, in_keys=["observation"])])
    assert task.network_arguments()["normalize"](torch.arange(186.0))[1:].tolist() == [184.0, 185.0]


class AppendTwo(Transform):
    """Two more floats."""

    def _apply_transform(self, obs: torch.Tensor) -> torch.Tensor:
        return torch.cat([obs, torch.ones_like(obs[..., :2])], -1)

    def transform_observation_spec(self, observation_spec: TensorSpec) -> TensorSpec:
        floats = observation_spec["observation"]
        observation_spec["observation"] = Unbounded((*floats.shape[:-1], floats.shape[-1] + 2), device=floats.device)
        return observation_spec

    def _reset(self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase) -> TensorDictBase:
        return self._call(tensordict_reset)
