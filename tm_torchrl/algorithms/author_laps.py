"""Laps like the author's as steps of a task: driven when a training begins, from perturbed starts and with mistakes."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from tensordict import TensorDictBase

from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.evaluation.recording import LIMITS, STARTS, Disturbances, like
from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.sim.lap_follower import LapFollower
from tm_torchrl.sim.search import Lap, replay_lap
from tm_torchrl.tasks.trackmania import TrackManiaTask
from tm_torchrl.tracks import Track
from tm_torchrl.tracks.medals import shipped_lap

AUTHOR = "author"  # names these laps where a folder of recorded laps could stand
NUM_LAPS = 32  # on each track; they take 10 to 30 CPU seconds
DISTURBED = 0.05  # share of the steps in which something else is played, as tm-torchrl record does


def author_steps(task: TrackManiaTask, *, num_laps: int = NUM_LAPS, seed: int = 0) -> list[TensorDictBase]:
    """The steps ``[1, T]`` of finished laps on each of the task's tracks, with its rewards; some do not finish.

    Steps in which something else was played than the driver chose have ``is_greedy`` False.

    Args:
        task: The task.
        num_laps: Laps that are tried on each track.
        seed: Seeds starts and mistakes.
    """
    if task.transforms:
        raise ConfigError(f"data={AUTHOR}: recorded frames have no transforms; use transforms=none")
    laps = {track.name: _author_lap(track) for track in task.training_tracks}
    found = []
    for track in task.training_tracks:
        env = TrackManiaEnv(
            num_laps,
            track=track,
            pixels=task.pixels,
            action_block=task.action_block,
            num_previous_actions=task.num_previous_actions,
            reward=None if task.reward is None else task.reward.terms(),
            limits=LIMITS,
            starts=STARTS["perturbed"],
            seed=seed,
        )
        with contextlib.closing(env):
            found += _driven(env, laps[track.name], seed=seed)
    return found


def _author_lap(track: Track) -> Lap:
    advice = "record laps with tm-torchrl record and name their folder"
    lap = replay_lap(track, shipped_lap(track.name, option=f"data={AUTHOR}", advice=advice))
    assert lap is not None, "the author laps of the package finish; a test drives them all"
    return lap


def _driven(env: TrackManiaEnv, lap: Lap, *, seed: int) -> list[TensorDictBase]:
    """Drive all cars once; returns the laps that finish."""
    disturbances = Disturbances(DISTURBED, seed=seed)
    longest = int(LIMITS.race_s / 0.05) + 1
    cars = range(env.batch_size[0])
    plans = torch.from_numpy(np.stack([disturbances.of(car, num_steps=longest) for car in cars])).to(env.device)
    follow, race = LapFollower(env.race.world, lap), env.race  # type: ignore[arg-type]
    steps: list[TensorDictBase] = []
    state = env.reset()
    is_over = torch.zeros(env.batch_size, dtype=torch.bool, device=env.device)
    while not is_over.all():
        planned = plans[:, len(steps)]
        played = torch.where(planned >= 0, planned, follow(race.world.rows(), race.tracker))
        state["action"] = like(played, torch.empty(race.action_shape)).expand(race.action_shape).clone()
        state["is_greedy"] = planned < 0
        state = env.step(state)
        steps.append(state)
        is_over = is_over | state["next", "done"].squeeze(-1)
        state = state["next"].exclude("reward")
    together: TensorDictBase = torch.stack(steps, 1)
    ends = together["next", "done"].squeeze(-1).int().argmax(1).tolist()
    laps = [together[car : car + 1, : end + 1] for car, end in enumerate(ends)]
    return [each.clone() for each in laps if bool(each["next", "terminated"][0, -1])]
