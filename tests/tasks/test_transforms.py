"""``env.transforms``: TorchRL's and our own transforms in training, evaluation and resumed runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torchrl.envs.transforms import CatFrames, StepCounter

from tests.trainers.test_training import CARTPOLE, DRIVE, numbers, quiet, weights
from tm_torchrl.agents import load_agent
from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.envs.transformed import transformed
from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.tasks import GymnasiumTask, TrackManiaTask
from tm_torchrl.tasks.task import make_task

STACK = [
    *DRIVE,
    "env.num_envs=2",
    "env.pixels=true",
    "network=classic",
    "transforms=stack_frames",
    "collector.frames_per_batch=16",
    "replay.learning_starts=16",
    "replay.batch_size=4",
    "replay.uses_per_transition=0.5",
    "evaluation.every_frames=64",
    "env.evaluation_limits.race_s=1",
    "log.every_frames=16",
]


def test_stacked_frames_resume_bit_for_bit(tmp_path: Path) -> None:
    """48 frames are 24 steps of two cars: the stack goes on with the three images before the stop."""
    quiet([*STACK, "total_frames=96"], tmp_path / "whole")
    quiet([*STACK, "total_frames=48"], tmp_path / "parts")
    quiet(["total_frames=96", f"resume='{tmp_path / 'parts'}'"], tmp_path / "ignored")
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    agent = load_agent(tmp_path / "parts")
    assert agent.evaluate(laps=1)[0]["num_laps"] == 1


def test_a_gymnasium_task_trains_through_our_transforms(tmp_path: Path) -> None:
    run = tmp_path / "run"
    quiet([*CARTPOLE, "experiment=cartpole_blocks", "total_frames=512"], run)
    agent = load_agent(run)
    assert agent.predict(torch.zeros(8)).shape == (2,), "4 floats and two actions of two; a block of two actions"
    assert agent.evaluate(laps=2)[0]["num_episodes"] == 2


def test_networks_get_the_sizes_behind_the_transforms() -> None:
    stack = partial(CatFrames, N=4, dim=-3, in_keys=["pixels"])
    arguments = TrackManiaTask(track="oval", pixels=True, transforms=[stack]).network_arguments()
    assert arguments["image_shape"] == (4, 64, 64)
    task = make_task(compose_settings(["env=gym", "transforms=action_blocks"]))
    assert isinstance(task, GymnasiumTask)
    found = task.network_arguments()
    assert (found["num_inputs"], found["num_actions"], found["num_slots"]) == (8, 2, 2)


def test_a_restored_environment_goes_on_as_the_saved_one() -> None:
    transforms = [partial(CatFrames, N=3, dim=-1, in_keys=["observation"]), StepCounter]
    env, other = (transformed(TrackManiaEnv(2, track="oval", seed=seed), transforms) for seed in (1, 2))
    state = env.reset()
    for _ in range(3):
        state = env.step_mdp(env.step(state.set("action", torch.tensor([1, 2]))))
    other.restore(env.save())  # type: ignore[attr-defined]
    found = other.present()  # type: ignore[attr-defined]
    for _ in range(3):
        state, found = (
            one.step_mdp(one.step(at.set("action", torch.tensor([0, 3])))) for one, at in ((env, state), (other, found))
        )
    for key in ("observation", "step_count"):
        assert torch.equal(state[key], found[key]), key


@pytest.mark.parametrize(
    "transforms",
    [
        "[{_target_: torchrl.envs.transforms.StepCounter}]",
        "[{_target_: tm_torchrl.data.ReuseBudget, _partial_: true}]",
        "[5]",
    ],
)
def test_what_makes_no_transform_is_refused(transforms: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"transforms\[0\]"):
        quiet([*DRIVE, f"env.transforms={transforms}"], tmp_path / "run")
    assert not (tmp_path / "run").exists()
