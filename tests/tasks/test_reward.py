"""Rewards on schedules: worked numbers, the same in every worker, through a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainers.test_training import DRIVE, quiet
from tm_torchrl.envs.rewards import Potential, Progress, Time, default_reward
from tm_torchrl.settings import compose_settings
from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.settings.schedules import Linear
from tm_torchrl.tasks.reward import Reward
from tm_torchrl.tasks.task import make_task
from tm_torchrl.trainers.run import make_training

FADING = "env.reward.time_per_ms=[linear, [0, -0.001], [256, -0.003]]"


def test_the_default_is_the_environments_own() -> None:
    assert Reward().terms() == default_reward()
    assert make_task(compose_settings()).reward.terms() == default_reward()  # type: ignore[attr-defined]


def test_weights_of_zero_are_left_out_and_further_terms_come_last() -> None:
    terms = Reward(time_per_ms=0.0, progress_per_m=["linear", [0, 0.0], [8, 4.0]], further=[Potential()]).terms()
    assert [type(term) for term in terms] == [Progress, Potential]
    assert terms[0].per_m(2) == 1.0  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="all weights are 0"):
        Reward(time_per_ms=0.0, progress_per_m=0)


def test_only_weights_that_change_are_shown() -> None:
    reward = Reward(finish=["linear", [0, 1.0], [100, 0.0]], time_per_ms=["staircase", [0, -1.0], [5, -1.0]])
    assert list(reward.schedules()) == ["finish"]
    assert isinstance(reward.terms()[0], Time) and reward.terms()[0].per_ms == -1.0
    assert isinstance(reward.schedules(speed=2.0)["finish"], Linear)
    assert reward.schedules(speed=2.0)["finish"](100) == 0.5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env.reward.finsh=1", "did you mean finish?"),
        ("env.reward.finish=[liner, [0, 1]]", "env.reward.finish: no schedule 'liner'; did you mean linear?"),
        ("env.reward.further=[{_target_: tm_torchrl.envs.rewards.Potentail}]", "did you mean Potential?"),
    ],
)
def test_messages(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_task(compose_settings([override]))
    assert message in str(caught.value)


def rewards(settings: list[str], number: int) -> list[torch.Tensor]:
    """Rewards ``[N, T]`` of the first batches, as the loop collects them."""
    wanted = compose_settings([*DRIVE, FADING, "env.reward.progress_per_m=0.0", *settings])
    training = make_training(wanted, make_task(wanted))
    try:
        training.set_schedules()
        found = []
        for _ in range(number):
            batch = next(training.source)  # type: ignore[call-overload]
            training.frames += batch.numel()
            training.set_schedules()
            found.append(batch["next", "reward"].squeeze(-1))
    finally:
        training.source.shutdown()
    return found


WORKERS = ["collector=multi_sync", "collector.num_workers=2"]


@pytest.mark.parametrize(
    ("settings", "played"),
    [
        ([], [0, 64, 128, 192, 256, 320]),  # batches have 64 frames
        (["collector.frames_per_batch=128"], [0, 128, 256]),
        (["schedule_speed=2.0"], [0, 32, 64, 96]),
        (WORKERS, [0, 0, 64, 128]),  # the second batch is asked for when the first one is there, but not counted yet
    ],
    ids=str,
)
def test_every_worker_pays_by_the_frames_played_when_its_batch_was_asked_for(
    settings: list[str], played: list[int]
) -> None:
    for found, frames in zip(rewards(settings, len(played)), played, strict=True):
        expected = -0.05 - 0.1 * min(frames, 256) / 256  # 50 ms a step, from -0.001 to -0.003 a ms
        assert found.shape[0] == 8
        assert torch.allclose(found, torch.tensor(expected)), (found, expected)


def shown(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_resumed_run_goes_on_with_its_reward(tmp_path: Path) -> None:
    settings = [*DRIVE, FADING]
    quiet([*settings, "total_frames=512"], tmp_path / "whole")
    quiet([*settings, "total_frames=192"], tmp_path / "parts")
    quiet(["total_frames=512", f"resume='{tmp_path / 'parts'}'"], tmp_path / "parts")
    whole, parts = shown(tmp_path / "whole"), shown(tmp_path / "parts")
    key = "schedule/reward_time_per_ms"
    assert [row[key] for row in whole] == pytest.approx([-0.002, -0.003, -0.003, -0.003])
    for row, other in zip(whole, parts, strict=True):
        assert (row["frames"], row[key]) == (other["frames"], other[key])
        assert row.get("train/loss") == other.get("train/loss")
        assert row.get("episode/return") == other.get("episode/return")
