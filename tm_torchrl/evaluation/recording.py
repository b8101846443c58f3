"""Drives laps to be learnt from: from a choice of starts, with random actions and a student's thrown in.

Shapes: B cars, T steps, A actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor

from tm_torchrl.data.demonstrations.description import UNTRIED
from tm_torchrl.data.demonstrations.writer import DrivenLap
from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.modules.policy_value import PolicyActor
from tm_torchrl.sim import Starts
from tm_torchrl.sim.state import STATE
from tm_torchrl.world.actions import NUM_ACTIONS
from tm_torchrl.world.tracker import Limits

STARTS = {
    "line": Starts(),
    "perturbed": Starts(jitter_m=0.5, jitter_speed=2.0),  # 50 cm and 7.2 km/h, ten and two times those of evaluations
    "anywhere": Starts(zone=1.0, jitter_m=0.5, jitter_speed=2.0),
    "walls": Starts(wall=0.5, askew=0.25, off_road=0.25, jitter_m=0.5, jitter_speed=2.0),
}
LIMITS = Limits(race_s=120.0, no_progress_s=5.0)  # as in evaluations
LONGEST_DISTURBANCE = 4  # steps, so up to 0.2 s
STRETCH = (10, 60)  # steps for which a student drives before the driver takes over again, and the other way round
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


def stretches(attempt: int, *, num_steps: int, seed: int = 0) -> np.ndarray:
    """In which steps of an attempt a student drives, bool ``[T]``: half of them, in stretches of 0.5 to 3 s.

    Args:
        attempt: Number of the lap.
        num_steps: T.
        seed: Seeds them; every attempt has its own.

    Examples:
        >>> bool(0.45 < stretches(3, num_steps=10_000).mean() < 0.55)
        True
    """
    random = np.random.default_rng([seed, attempt, 1])
    lengths = random.integers(*STRETCH, size=num_steps // STRETCH[0] + 1)
    is_first = bool(random.integers(2))
    return np.repeat(np.arange(len(lengths)) % 2 == is_first, lengths)[:num_steps]


class SeededSampling(TensorDictModuleBase):
    """Draws a policy's actions; what each car draws depends on the seeds and the number of its attempt alone.

    Args:
        actor: The policy's actor.
        attempts: Number of each car's attempt.
        seed: Of the starts.
        sampling_seed: Of the actions.
    """

    def __init__(self, actor: PolicyActor, *, attempts: Sequence[int], seed: int, sampling_seed: int) -> None:
        super().__init__()
        self.actor: Any = actor
        self.in_keys, self.out_keys = actor.in_keys, actor.out_keys
        self._generators = [np.random.default_rng([seed, attempt, 2, sampling_seed]) for attempt in attempts]

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the next action of each car."""
        log_probs = self.actor.network.logits(*(tensordict.get(key) for key in self.in_keys)).log_softmax(-1)
        noise = np.stack([generator.gumbel(size=log_probs.shape[1:]) for generator in self._generators])
        return tensordict.set("action", (log_probs + torch.from_numpy(noise).to(log_probs.device)).argmax(-1))


def record_attempts(
    env: TrackManiaEnv,
    act: Callable[[], Tensor],
    *,
    first: int,
    seed: int = 0,
    disturbances: Disturbances,
    student: Callable[[], Tensor] | None = None,
    weighs_actions: bool = False,
    keeps_pixels: bool = False,
    num_steps: int | None = None,
) -> list[DrivenLap | None]:
    """Drive one lap with each car; returns each car's lap, ``None`` for one that did not finish.

    With ``num_steps`` laps end after so many steps at the latest, and all are kept.

    An attempt depends on the seed and its number alone, not on how many cars drive at once. The driver chooses in every
    step, also where something else is played.

    Args:
        env: An environment of one track in the simulator.
        act: The driver's actions ``[B]`` or ``[B, 5]`` for the present state of the environment.
        first: Number of the first car's attempt.
        seed: Seeds the starts.
        disturbances: Random actions.
        student: Actions of an agent that drives half of the time (DAgger, Ross et al. 2011); ``None`` for nobody.
        weighs_actions: Whether ``act`` gives instead what each action costs the driver, in seconds ``[B, A]``: then it
            takes the cheapest, and how much more the others cost is kept.
        keeps_pixels: Whether to keep the camera's images.
        num_steps: Steps after which a lap ends; ``None`` for laps that finish.
    """
    race, world, num = env.race, env.world, env.batch_size[0]
    env.seed_copies([seed * SEED_STRIDE + first + car for car in range(num)])
    race.reset()
    longest = int(race.tracker.limits.race_s / 0.05) + 1
    attempts = range(first, first + num)
    plans = torch.from_numpy(np.stack([disturbances.of(attempt, num_steps=longest) for attempt in attempts]))
    is_student = torch.from_numpy(np.stack([stretches(each, num_steps=longest, seed=seed) for each in attempts]))
    starts, zones = world.save().cpu().numpy(), race.tracker["zone"].int().tolist()
    starts[:, STATE["episode"]] = 0  # how often the car has driven before: equal starts are equal bits
    seen: list[dict[str, Tensor]] = []
    lengths, times_s = torch.zeros(num, dtype=torch.int64), torch.full((num,), torch.nan, dtype=torch.float64)
    while bool((is_driving := lengths == 0).any()):
        step, frame = len(seen), {"observation": race.observation.cpu()}
        if keeps_pixels:
            frame["pixels"] = world.frames().cpu().clone()
        chosen, planned = act(), plans[:, step].to(env.device)
        if weighs_actions:
            regret = chosen - chosen.min(1, keepdim=True).values
            frame["regret"] = regret.nan_to_num(nan=0.0).clamp_max(UNTRIED).cpu().half()  # nan: nothing was tried
            chosen = chosen.argmin(1)
        own = chosen if student is None else torch.where(like(is_student[:, step], chosen), student(), chosen)
        action = torch.where(like(planned >= 0, chosen), like(planned, chosen), own)
        outcome = race.step(action)
        seen.append(frame | {"action": action.cpu().to(torch.uint8), "chosen": chosen.cpu().to(torch.uint8)})
        is_over = is_driving & ((outcome.terminated | outcome.truncated).cpu() | (step + 1 == num_steps))
        lengths[is_over] = step + 1
        finished = is_over & outcome.terminated.cpu()
        times_s[finished] = race.tracker["race_time_ms"].cpu()[finished].double() / 1000.0
    columns = {name: torch.stack([frame[name] for frame in seen], 1).numpy() for name in seen[0]}  # [B, T, ...]
    return [
        None
        if num_steps is None and np.isnan(time_s)
        else DrivenLap(
            **{name: column[car, :length] for name, column in columns.items()},
            time_s=time_s,
            start=starts[car],
            zone=zones[car],
        )
        for car, (length, time_s) in enumerate(zip(lengths.tolist(), times_s.tolist(), strict=True))
    ]


def like(values: Tensor, actions: Tensor) -> Tensor:
    """Values ``[B]`` on the actions' device, in a shape that fits actions ``[B]`` or ``[B, 5]``."""
    return values.to(actions.device).view(-1, *(1,) * (actions.ndim - 1))
