"""Gymnasium tasks that show images: what the network is told of them, and that it learns from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainers.test_training import quiet
from tm_torchrl.modules import SmallPixelEncoder
from tm_torchrl.settings import ConfigError
from tm_torchrl.tasks.gymnasium import GymnasiumTask

LIGHT = "tests.tasks.light_task:Light-v0"


def test_images_come_with_channels_first() -> None:
    task = GymnasiumTask(LIGHT)
    assert task.in_keys == ["pixels"]
    arguments = task.network_arguments()
    assert (arguments["num_inputs"], arguments["image_shape"], arguments["num_actions"]) == (None, (2, 6, 6), 2)
    assert task.make_env(num_envs=3).reset()["pixels"].shape == (3, 2, 6, 6)


def test_floats_are_as_before() -> None:
    arguments = GymnasiumTask("CartPole-v1", scale=[1.0] * 4).network_arguments()
    assert (arguments["num_inputs"], arguments["image_shape"]) == (4, None)
    assert arguments["normalize"] is not None


def test_constants_of_floats_are_refused() -> None:
    with pytest.raises(ValueError, match="mean, scale, floats: are for floats"):
        GymnasiumTask(LIGHT, scale=[1.0]).network_arguments()


def test_a_network_without_eyes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="image_shape="):
        quiet(["env=gym", f"env.name={LIGHT}", "exploration=epsilon"], tmp_path / "run")


def test_it_learns_which_button_is_lit(tmp_path: Path) -> None:
    """The best return is 8, by chance it is 4; evaluation pays double: 16."""
    summary = quiet(
        [
            "env=gym",
            f"env.name={LIGHT}",
            "env.evaluation_options={prize: 2.0}",
            "network=small_image",
            "objective.network.head_size=32",
            "estimator=greedy",
            "exploration=epsilon",
            "exploration.epsilon=0.2",
            "collector=single",
            "collector.frames_per_batch=64",
            "total_frames=1_024",
            "gamma=0.0",
            "learning_rate=3.0e-3",
            "replay.learning_starts=64",
            "replay.batch_size=32",
            "replay.num_steps=1",
            "replay.storage=memory",
            "evaluation.every_frames=1_024",
            "evaluation.num=4",
            "precision=float32",
            "log.tensorboard=false",
        ],
        tmp_path / "run",
    )
    assert isinstance(summary.agent.actor.quantile_module.network.encoder, SmallPixelEncoder)
    assert summary.rows[0]["return_mean"] == 16.0
