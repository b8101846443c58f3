"""Drives laps to be learnt from: from a choice of starts, with random actions thrown in.

Shapes: B cars, T steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tm_torchrl.data.demonstrations.writer import DrivenLap
from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.sim import Starts
from tm_torchrl.world.actions import NUM_ACTIONS
from tm_torchrl.world.tracker import Limits

STARTS = {
    "line": Starts(),
    "perturbed": Starts(jitter_m=0.5, jitter_speed=2.0),  # 50 cm and 7.2 km/h, ten and two times those of evaluations
    "anywhere": Starts(zone=1.0, jitter_m=0.5, jitter_speed=2.0),
}
LIMITS = Limits(race_s=120.0)  # as in evaluations; a lap that stands still for 2 s is none to learn from
LONGEST_DISTURBANCE = 4  # steps, so up to 0.2 s
SEED_STRIDE = 1_000_003  # between the first attempts of two seeds


@dataclass(frozen=True)
class Disturbances:
    """Random actions, each held for 1 to 4 steps, so that laps also show how to come back from a mistake.

    Args:
        share: Share of the steps with a random action.
        seed: Seeds them; every attempt has its own.
    """

    share: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.share < 1.0:
            raise ValueError(f"disturbed={self.share}: must be a share of the steps, at least 0 and below 1")

    def of(self, attempt: int, *, num_steps: int) -> np.ndarray:
        """The random action of each step, int64 ``[T]``; -1 where there is none.

        Args:
            attempt: Number of the lap.
            num_steps: T.

        Examples:
            >>> plan = Disturbances(0.1).of(3, num_steps=10_000)
            >>> bool(0.08 < (plan >= 0).mean() < 0.12), int(Disturbances(0.0).of(3, num_steps=100).max())
            (True, -1)
        """
        plan = np.full(num_steps, -1, np.int64)
        if not self.share:
            return plan
        random = np.random.default_rng([self.seed, attempt])
        mean_gap = (1.0 + LONGEST_DISTURBANCE) / 2.0 * (1.0 - self.share) / self.share
        step = 0
        while step < num_steps:
            step += int(random.geometric(min(1.0, 1.0 / mean_gap)))
            end = step + int(random.integers(1, LONGEST_DISTURBANCE + 1))
            plan[step:end] = random.integers(NUM_ACTIONS)
            step = end
        return plan


def record_attempts(
    env: TrackManiaEnv,
    act: Callable[[], Tensor],
    *,
    first: int,
    seed: int = 0,
    disturbances: Disturbances,
    keeps_pixels: bool = False,
) -> list[DrivenLap | None]:
    """Drive one lap with each car; returns each car's lap, ``None`` for one that did not finish.

    An attempt depends on the seed and its number alone, not on how many cars drive at once.

    Args:
        env: An environment of one track in the simulator.
        act: The driver's actions ``[B]`` or ``[B, 5]`` for the present state of the environment.
        first: Number of the first car's attempt.
        seed: Seeds the starts.
        disturbances: Random actions.
        keeps_pixels: Whether to keep the camera's images.
    """
    race, world, num = env.race, env.world, env.batch_size[0]
    env.seed_copies([seed * SEED_STRIDE + first + car for car in range(num)])
    race.reset()
    longest = int(race.tracker.limits.race_s / 0.05) + 1
    plans = torch.from_numpy(np.stack([disturbances.of(first + i, num_steps=longest) for i in range(num)]))
    starts, zones = world.save().cpu().numpy(), race.tracker["zone"].int().tolist()
    seen: list[list[Tensor]] = []
    lengths, times_s = torch.zeros(num, dtype=torch.int64), torch.full((num,), torch.nan, dtype=torch.float64)
    while bool((is_driving := lengths == 0).any()):
        step = len(seen)
        observation = race.observation.cpu()
        pixels = [world.frames().cpu().clone()] if keeps_pixels else []
        chosen, planned = act(), plans[:, step].to(env.device)
        is_disturbed = planned >= 0
        if chosen.ndim > 1:
            planned, is_disturbed = planned.unsqueeze(1), is_disturbed.unsqueeze(1)
        action = torch.where(is_disturbed, planned, chosen)
        outcome = race.step(action)
        seen.append([observation, action.cpu().to(torch.uint8), plans[:, step] >= 0, *pixels])
        is_over = (outcome.terminated | outcome.truncated).cpu() & is_driving
        lengths[is_over] = step + 1
        finished = is_over & outcome.terminated.cpu()
        times_s[finished] = race.tracker["race_time_ms"].cpu()[finished].double() / 1000.0
    columns = [torch.stack(column, 1).numpy() for column in zip(*seen, strict=True)]  # [B, T, ...]
    return [
        None if np.isnan(time_s) else DrivenLap(*kept[:3], time_s, starts[car], zones[car], *kept[3:])
        for car, (length, time_s) in enumerate(zip(lengths.tolist(), times_s.tolist(), strict=True))
        if (kept := [column[car, :length] for column in columns])
    ]
